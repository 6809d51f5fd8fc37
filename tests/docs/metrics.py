"""The metrics as docs/metrics.md has them."""

from __future__ import annotations

from attrs import frozen

from tests.docs.documents import names, read, rows, section

METRICS = read("docs/metrics.md")


@frozen
class Metric:
    """One row of its table."""

    name: str
    kind: str
    labels: frozenset[str]

    @property
    def series(self) -> dict[str, set[str]]:
        """The names under which Prometheus has it, each with its labels."""
        if self.kind != "histogram":
            return {self.name: set(self.labels)}
        name, labels = self.name, set(self.labels)
        return {
            f"{name}_bucket": labels | {"le"},
            f"{name}_count": labels,
            f"{name}_sum": labels,
        }


def documented() -> list[Metric]:
    """Every row."""
    table = rows(section(METRICS, "## What there is"))
    return [Metric(names(row[0])[0], row[1], frozenset(names(row[2]))) for row in table]

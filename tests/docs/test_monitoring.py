"""The dashboard and the alert rules ask for metrics that there are, and their files are whole."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from attrs import frozen

from tests.docs.documents import names, read, rows, section
from tests.docs.metrics import METRICS, documented
from tortxd.errors import kinds

DASHBOARD: dict[str, Any] = json.loads(read("docs/grafana.json"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(read("docs/alerts.yml"))["groups"] for rule in group["rules"]
]
OF_PROMETHEUS = {"up": {"job"}}
"""What it makes of a scrape by itself."""
OF_EVERY_TARGET = {"instance", "job"}


SERIES = {name: labels for one in documented() for name, labels in one.series.items()}


@frozen
class Asked:
    """What an expression of PromQL asks for."""

    metrics: set[str]
    labels: set[str]
    """In selectors and groupings, of whichever metric."""


_KEYWORDS = {"and", "or", "unless", "offset", "bool"}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def asked(expression: str) -> Asked:
    """Read an expression, as far as those of the two files go."""
    rest = re.sub(r'"[^"]*"', '""', expression)
    labels = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*""', rest))
    for listed in _GROUPING.findall(rest):
        labels |= set(re.findall(r"\w+", listed))
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\boffset\s+\w+", " ", _GROUPING.sub(" ", rest))
    words = re.findall(r"\b([A-Za-z_]\w*)\b(?!\s*\()", rest)
    return Asked(set(words) - _KEYWORDS, labels)


QUERIES = [
    *((rule["alert"], rule["expr"]) for rule in RULES),
    *((one["title"], target["expr"]) for one in PANELS for target in one.get("targets", ())),
]
"""Every query of both files, with what it is for."""


@pytest.mark.parametrize(("title", "expression"), QUERIES)
def test_queries_ask_for_what_there_is(title: str, expression: str) -> None:
    there = SERIES | OF_PROMETHEUS
    found = asked(expression)
    assert found.metrics
    assert found.metrics <= there.keys(), title
    known = set().union(*(there[name] for name in found.metrics)) | OF_EVERY_TARGET
    assert found.labels <= known, title


def test_queries_are_read_right() -> None:
    """The reader above overlooks nothing of what these files use."""
    found = asked(
        'sum by (a, le) (rate(m_bucket{b="c", d=~"$e"}[5m])) / on(f) n > 0.1 or o offset 5m'
    )
    assert found == Asked({"m_bucket", "n", "o"}, {"a", "le", "b", "d", "f"})


def test_every_metric_is_shown() -> None:
    """But for the sums of histograms, and for counts where the buckets are shown."""
    shown = {name for _, query in QUERIES for name in asked(query).metrics}
    assert {name for name in SERIES if not name.endswith(("_sum", "_count"))} <= shown


def test_codes_that_queries_name_are_those_that_there_are() -> None:
    named = [
        code
        for _, query in QUERIES
        for values in re.findall(r'outcome[=!]~?"([^"]*)"', query)
        for code in values.split("|")
    ]
    assert set(named) - {"ok", "client_gone"} <= kinds().keys()
    assert {code for code, kind in kinds().items() if kind.fault == "tor"} <= set(named)


def test_legends_name_labels_that_the_query_leaves() -> None:
    for panel in PANELS:
        for target in panel.get("targets", ()):
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                metrics = asked(target["expr"]).metrics
                known = set().union(*(SERIES[name] for name in metrics)) | OF_EVERY_TARGET
                grouped = _GROUPING.findall(target["expr"])
                assert label in known
                assert not grouped or label in grouped[0]


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["title"] and DASHBOARD["uid"]
    variables = {one["name"]: one["type"] for one in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query"}
    identifiers = [panel["id"] for panel in PANELS]
    assert len(identifiers) == len(set(identifiers)) > 15
    for panel in PANELS:
        for part in (panel, *panel.get("targets", ())):
            source = part.get("datasource", {"uid": "${datasource}"})
            assert source["uid"] == "${datasource}", panel["title"]


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_alerts_are_whole_and_described() -> None:
    described = rows(section(METRICS, "## Alerts"))
    assert [names(row[0])[0] for row in described] == [rule["alert"] for rule in RULES]
    for rule, (_, severity, _) in zip(RULES, described, strict=True):
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"[0-9]+m", rule["for"])
        assert rule["labels"] == {"severity": severity}
        assert severity in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}

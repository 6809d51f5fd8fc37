"""``tortxd metrics``: the figures for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from tortxd.cli import words
from tortxd.cli.asking import Asker
from tortxd.cli.exposition import check, merged
from tortxd.cli.failures import UsageFailed
from tortxd.cli.fleet import Reply, consult, members_json
from tortxd.cli.main import Settings, command

LONGEST = 1024 * 1024
"""Bytes; a gateway has some 20 kB."""


@command("metrics")
def metrics(settings: Settings) -> None:
    """Print the figures as Prometheus reads them.

    Of a fleet, they are one text, in which each sample has the label member.
    """
    if settings.as_json:
        raise UsageFailed(
            "metrics prints Prometheus's text format, and no JSON; `tortxd status --json` is for "
            "other programs."
        )
    output = settings.output

    def question(asker: Asker) -> str:
        answer = asker.ask("GET", "/metrics")
        answer.check()
        return check(answer.text(LONGEST))

    def together(replies: Sequence[Reply[str]]) -> None:
        texts = [(one.member.name, one.value) for one in replies if one.value is not None]
        for line in merged(texts):
            output.line(words.plain(line))

    def alone(_: Asker, text: str) -> None:
        for line in text.split("\n")[:-1]:
            output.line(words.plain(line))

    consult(settings, question, alone=alone, together=together, as_json=members_json)

"""What is logged of a request that is over, and what is not."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import LogEvent, capturedLogs

from tortxd.errors import ResolveFailed
from tortxd.gateway.request_log import log_request
from tortxd.log_lines import JsonLines, TextLines
from tortxd.relay.journal import Summary

SERVED = Summary(
    way="proxy",
    outcome="ok",
    status=200,
    to_connect=0.41234,
    to_head=0.9,
    seconds=1.23456,
    sent=0,
    received=48211,
    attempts=1,
)


def logged(summary: Summary) -> LogEvent:
    with capturedLogs() as events:
        log_request(summary)
    (event,) = events
    return event


def entry(summary: Summary) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(JsonLines()(logged(summary)) or "")
    return entry


def test_a_request_is_one_line() -> None:
    line = TextLines()(logged(SERVED)) or ""
    assert line.partition(" ")[2] == (
        "info  requests proxy ok status=200 connect=0.412 head=0.900 total=1.235 sent=0 "
        "received=48211 attempts=1"
    )


def test_as_json_it_has_fields() -> None:
    said = entry(SERVED)
    del said["time"], said["message"]
    assert said == {
        "level": "info",
        "name": "requests",
        "way": "proxy",
        "outcome": "ok",
        "status": 200,
        "connect": 0.412,
        "head": 0.9,
        "total": 1.235,
        "sent": 0,
        "received": 48211,
        "attempts": 1,
    }


def test_what_there_was_none_of_is_left_out() -> None:
    refused = SERVED._replace(outcome="bad_url", status=None, to_connect=None, to_head=None)
    assert not {"status", "connect", "head"} & entry(refused).keys()
    assert "None" not in (TextLines()(logged(refused)) or "")


def test_refusals_have_the_same_form() -> None:
    refused = SERVED._replace(
        outcome="bad_url", status=None, to_connect=None, to_head=None, seconds=0.0, received=0
    )
    line = TextLines()(logged(refused._replace(attempts=0))) or ""
    assert line.endswith("requests proxy bad_url total=0.000 sent=0 received=0 attempts=0")


def test_nothing_tells_where_it_went_or_for_whom() -> None:
    failed = SERVED._replace(
        outcome="resolve_failed",
        error=ResolveFailed("canary.example was not found."),
        source=("127.0.0.1", 54321),
        username=b"canary",
    )
    event = logged(failed)
    for text in (TextLines()(event), JsonLines()(event), repr(event)):
        assert text
        assert "canary" not in text
        assert "54321" not in text

"""The tables of the documentation say what the code does."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.docs.documents import blocks, names, read, rows, section
from tortxd.config import DaemonConfig
from tortxd.errors import kinds
from tortxd.gateway.control.probes import ProbeResult
from tortxd.gateway.control.routes import ENDPOINTS
from tortxd.gateway.request_log import fields_of
from tortxd.options import KEYS
from tortxd.policy.headers import incoming, outgoing
from tortxd.policy.request import DIRECTIVES, ISOLATION_ALIAS
from tortxd.relay.journal import CLIENT_GONE, OK, Summary, Way
from tortxd.tor.link import Circuit

CONFIGURATION = read("docs/configuration.md")
HTTP_API = read("docs/http-api.md")
README = read("README.md")


# --- configuration: the table of options is tested in tests/test_options.py -----------------------


def test_the_example_file_is_whole_and_right(tmp_path: Path) -> None:
    (example,) = blocks(CONFIGURATION, "toml")
    values = tomllib.loads(example)
    assert values.keys() == KEYS

    for key in ("token_file", "operator_token_file", "control_password_file"):
        secret = tmp_path / key
        secret.write_text(f"the-word-of-{key}\n")
        example = example.replace(f'"{values[key]}"', f'"{secret}"')
    file = tmp_path / "tortxd.toml"
    file.write_text(example)
    config = DaemonConfig.load({"config": str(file)}, {})
    assert config.token == b"the-word-of-token_file"
    assert config.operator_token == b"the-word-of-operator_token_file"
    assert config.control_password == b"the-word-of-control_password_file"
    assert config.aliases == (f"localhost:8080={values['aliases']['localhost:8080']}",)


def test_what_is_logged_of_requests() -> None:
    table: dict[str, str] = {}
    for keys, meaning in rows(section(CONFIGURATION, "### Requests in the log")):
        table |= dict.fromkeys(names(keys), meaning)
    summary = Summary("proxy", OK, 200, 0.1, 0.2, 0.3, 0, 0, 1)
    assert table.keys() == fields_of(summary).keys()
    assert set(get_args(Way)) <= set(names(table["way"]))
    assert {OK, CLIENT_GONE} <= set(names(table["outcome"]))


# --- the HTTP API ---------------------------------------------------------------------------------

ERRORS = rows(section(HTTP_API, "## Errors"))


def test_every_error_is_described() -> None:
    described = [names(row[1])[0] for row in ERRORS]
    assert sorted(described) == sorted(kinds())


def test_every_error_has_its_status() -> None:
    for status, code, _ in ERRORS:
        assert kinds()[names(code)[0]].status == int(status.split(",")[0])


def test_every_route_is_described() -> None:
    table = rows(HTTP_API.split("## Routes\n")[1].split("\n### ")[0])
    described = {names(row[0])[0].split()[1].partition("?")[0] for row in table}
    paths = {re.sub(r"<(\w+)>", r"{\1}", one.path) for one in ENDPOINTS}
    assert described == {re.sub(r"^/dashboard/.*", "/dashboard/{file}", path) for path in paths}


def test_every_header_that_directs_the_gateway_is_described() -> None:
    table = rows(section(HTTP_API, "## Request headers"))
    described = {name.partition(":")[0].lower().encode() for row in table for name in names(row[0])}
    assert DIRECTIVES - {ISOLATION_ALIAS} <= described | {b"proxy-authorization"}


def examples(text: str) -> list[bytes]:
    """Header names, with something in place of a star."""
    found = re.findall(r"`([A-Z][A-Za-z-]*\*?)`", text)
    return [name.replace("*", "Anything").encode() for name in found]


def test_dropped_request_headers() -> None:
    from tortxd.policy.headers import UserAgent

    paragraph = HTTP_API.split("On `/proxy`, these are dropped: ")[1].split("hop-by-hop")[0]
    dropped = examples(paragraph)
    assert len(dropped) > 8
    for name in dropped:
        assert outgoing([(name, b"1")], user_agent=UserAgent.of("auto")) == []
    kept = [(b"Authorization", b"1"), (b"X-Mine", b"1")]
    assert outgoing(kept, user_agent=UserAgent.of("auto")) == kept


def test_dropped_response_headers() -> None:
    from tortxd.policy.target import TargetPolicy

    policy = TargetPolicy()
    dropped = examples(HTTP_API.split(", and loses\n")[1].split("and a few more")[0])
    assert len(dropped) > 8
    for name in dropped:
        headers = incoming(
            [(name, b"1")],
            status=200,
            sec_fetch_dest=None,
            target=policy.parse("http://a.example/"),
            policy=policy,
        )
        assert name not in dict(headers)


VERDICTS = rows(section(HTTP_API, "### Verify Tor"))


@pytest.mark.parametrize("row", VERDICTS, ids=lambda row: ", ".join(row[:3]))
def test_verdicts(row: list[str]) -> None:
    from tortxd.gateway.control.views import verdict

    word, control, service, is_tor, address = row
    said: dict[str, dict[str, Any] | None] = {
        "says Tor": {"IsTor": True, "IP": "192.0.2.1"},
        "says not Tor": {"IsTor": False, "IP": "192.0.2.1"},
    }
    answer = said.get(service)
    shown = Circuit("1", "BUILT", (), None, 0.0)
    circuits: dict[str, list[Circuit | None]] = {"shows the stream": [shown], "does not": [None]}
    for circuit in circuits.get(control, [shown, None]):
        told = verdict(ProbeResult(answer, None, circuit))
        assert told["verdict"] == names(word)[0]
        assert told["isTor"] == (is_tor == "true")
        assert (told["exitIp"] is None) == (address == "null")


# --- dependencies ---------------------------------------------------------------------------------


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(read("pyproject.toml"))
    wanted = [
        *project["project"]["dependencies"],
        *chain(*project["project"]["optional-dependencies"].values()),
        *project["dependency-groups"]["dev"],
    ]
    described = {
        name.partition("[")[0]
        for row in rows(read("docs/dependencies.md"))
        for name in names(row[0])
    }
    assert described == {re.split(r"[\[<>=;]", one)[0] for one in wanted}

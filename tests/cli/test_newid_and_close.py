"""What the command changes: new identities, and what is closed."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import CIRCUIT, RENEWED, STREAM, FakeGateway, error, said


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ((), None),
        (("--isolation", "alice"), {"isolation": "alice"}),
        (("--proxy-user", "bob:pw"), {"proxyUser": "bob:pw"}),
        (("--circuit", "12"), {"circuit": "12"}),
    ],
)
def test_newid(found: FakeGateway, tortxd: Run, words: tuple[str, ...], body: object) -> None:
    found.answers["/identity/new"] = said(RENEWED | {"renewed": "key" if words else "all"})
    status, out, _ = tortxd("newid", *words)
    assert status == 0
    whose = "the key" if words else "everyone (1 key)"
    assert out == f"New circuits for {whose}, from the next request on.\n"
    (asked,) = found.asked
    assert (asked.method, asked.path) == ("POST", "/identity/new")
    assert json.loads(asked.body or b"null") == body


def test_newid_says_what_was_done(found: FakeGateway, tortxd: Run) -> None:
    made = {"renewed": "all", "keys": 14, "connections": 3, "nextNewnym": 9.2}
    found.answers["/identity/new"] = said(made)
    assert tortxd("newid")[1] == (
        "New circuits for everyone (14 keys), from the next request on; 3 connections to the old "
        "ones retired. Tor makes the next in 10 s.\n"
    )
    found.answers["/identity/new"] = said({**made, "renewed": "key", "keys": 1, "connections": 1})
    assert tortxd("newid", "--isolation", "a")[1] == (
        "New circuits for the key, from the next request on; 1 connection to the old ones "
        "retired.\n"
    )


def test_newid_takes_one_of_them(found: FakeGateway, tortxd: Run) -> None:
    status, _, err = tortxd("newid", "--isolation", "a", "--circuit", "1")
    assert (status, err) == (2, "tortxd: Give one of --isolation, --proxy-user and --circuit.\n")
    assert not found.asked


@pytest.mark.parametrize(("id", "kind"), [("12", "circuit"), ("34", "stream")])
def test_close_knows_what_an_id_is(found: FakeGateway, tortxd: Run, id: str, kind: str) -> None:
    found.answers[f"/{kind}s/{id}/close"] = said({"closed": id})
    assert tortxd("close", id) == (0, f"The {kind} {id} is closed.\n", "")
    assert (found.asked[-1].method, found.asked[-1].path) == ("POST", f"/{kind}s/{id}/close")
    assert json.loads(tortxd("close", id, "--json")[1]) == {"closed": id}


def test_close_asks_where_an_id_is_both(found: FakeGateway, tortxd: Run) -> None:
    found.answers["/streams"] = said({"streams": [STREAM | {"id": CIRCUIT["id"]}]})
    found.answers["/streams/12/close"] = said({"closed": "12"})
    status, _, err = tortxd("close", "12")
    assert (status, "--circuit or --stream" in err) == (2, True)
    assert tortxd("close", "12", "--stream")[0] == 0


def test_what_is_not_there_is_not_closed(found: FakeGateway, tortxd: Run) -> None:
    assert tortxd("close", "99") == (1, "", "tortxd: There is no circuit and no stream 99 now.\n")
    sentence = "There is no circuit with this id now."
    found.answers["/circuits/99/close"] = error("not_found", sentence, 404)
    assert tortxd("close", "99", "--circuit")[2] == f"tortxd: {sentence} (not_found)\n"
    for id in ("../x", "1 2", "é"):
        assert tortxd("close", id)[0] == 2

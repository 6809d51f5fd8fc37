"""Which gateway the command asks, and who gets a token."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import Canned, FakeGateway, error, said
from tests.tor.lone_tor import free_port
from tortxd.cli.failures import UsageFailed
from tortxd.cli.gateways import DEFAULT, Gateway, find, normal
from tortxd.runtime import Running, announce, run_dirs


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("3080", "http://localhost:3080"),
        ("localhost:3081", "http://localhost:3081"),
        ("http://127.0.0.1:3080/", "http://127.0.0.1:3080"),
        ("http://[::1]:3080", "http://[::1]:3080"),
        ("https://tor.example", "https://tor.example:443"),
        ("tor.example", "http://tor.example:80"),
        ("unix:/run/tortxd", "unix:/run/tortxd"),
    ],
)
def test_a_gateway_as_users_write_it(name: str, url: str) -> None:
    assert normal(name) == url


@pytest.mark.parametrize(
    "name", ["", "ftp://a", "http://", "http://a:0", "http://a:99999", "a:b", "http://["]
)
def test_what_is_no_gateway(name: str) -> None:
    with pytest.raises(UsageFailed, match="--gateway takes"):
        normal(name)


def test_the_daemon_that_runs_here_is_found(found: FakeGateway, tortxd: Run) -> None:
    assert tortxd("circuits")[0] == 0
    assert found.asked[0].headers["Tortxd-Token"] == "token-canary"


def test_what_any_client_may_do_is_done_as_one(
    gateway: FakeGateway, environ: dict[str, str], tortxd: Run, tmp_path: Path
) -> None:
    """The keys of a client with a token are others than those of one without."""
    (tmp_path / "client").write_text("client-canary")
    operators = tmp_path / "operator-token"
    operators.write_text("operator-canary")
    gateway.answers["/identity/new"] = said(
        {"renewed": "key", "keys": 1, "connections": 0, "nextNewnym": 0.0}
    )
    gateway.answers["/proxy"] = Canned(b"x", 200, (("Content-Type", "text/plain"),))
    for token, sent in ((None, None), (tmp_path / "client", "client-canary")):
        gateway.asked.clear()
        announcement = announce(run_dirs(environ), Running(1, (gateway.url,), operators, token))
        for words in (("newid", "--isolation", "a"), ("get", "a.example"), ("newid",)):
            assert tortxd(*words)[0] == 0
        announcement.withdraw()
        *as_client, as_operator = (one.headers.get("Tortxd-Token") for one in gateway.asked)
        assert as_client == [sent, sent]
        assert as_operator == "operator-canary"


def test_of_several_the_newest_is_asked(environ: dict[str, str], tmp_path: Path) -> None:
    both = [
        announce(run_dirs(environ), Running(pid, (f"http://127.0.0.1:{pid}",), tmp_path, None))
        for pid in (1, 2)
    ]
    (gateway,), note = find((), None, environ)
    assert gateway.url in ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert note is not None
    assert note.startswith(f"2 daemons run here; this asks the newest, {gateway.url}.")
    for announcement in both:
        announcement.withdraw()


def test_where_none_runs_the_usual_port_is_asked_without_a_token(environ: dict[str, str]) -> None:
    """Whoever else listens there must not get it."""
    state = Path(environ["HOME"]) / ".local" / "state" / "tortxd"
    state.mkdir(parents=True)
    (state / "operator-token").write_text("canary")
    assert find((), None, environ) == ([Gateway(DEFAULT, is_named=False)], None)


@pytest.mark.usefixtures("found")
def test_no_other_gateway_gets_the_token(environ: dict[str, str]) -> None:
    for name in ("http://tor.example", "http://127.0.0.1:1", "unix:/run/other"):
        ((other,), _) = find((name,), None, environ)
        assert other.token_file is None


def test_a_gateway_that_runs_here_gets_it_by_any_name(
    found: FakeGateway, environ: dict[str, str]
) -> None:
    port = found.url.rpartition(":")[2]
    for name in (port, f"localhost:{port}", f"http://[::1]:{port}", found.url):
        ((gateway,), _) = find((name,), None, environ)
        assert gateway.token_file is not None
        # Someone else may listen on this port of the other addresses of this machine.
        assert gateway.url == found.url


def test_the_token_that_is_named_goes_to_the_gateway_that_is_named(
    gateway: FakeGateway, environ: dict[str, str], tortxd: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text(" mine \n")
    assert (
        tortxd("circuits", "--gateway", gateway.url, "--token-file", str(tmp_path / "mine"))[0] == 0
    )
    assert gateway.asked[0].headers["Tortxd-Token"] == "mine"


def test_the_variable_names_gateways(environ: dict[str, str]) -> None:
    environ["TORTXD_GATEWAY"] = "3081, http://b.example"
    assert [one.url for one in find((), None, environ)[0]] == [
        "http://localhost:3081",
        "http://b.example:80",
    ]
    assert [one.url for one in find(("3082",), None, environ)[0]] == ["http://localhost:3082"]


# --- what cannot be asked -------------------------------------------------------------------------


@pytest.mark.usefixtures("environ")
def test_nothing_answers(tortxd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://localhost:{free_port()}"
    for module in ("gateways", "asking"):
        monkeypatch.setattr(f"tortxd.cli.{module}.DEFAULT", url)
    assert tortxd("status") == (
        3,
        "",
        f"tortxd: tortxd is not running on this machine: nothing answers at {url}. Start it with: "
        "tortxd serve\n",
    )
    assert tortxd("status", "--gateway", url) == (3, "", f"tortxd: Nothing answers at {url}.\n")
    status, _, err = tortxd("status", "--gateway", "unix:/nonexistent/gateway")
    assert (status, err) == (3, "tortxd: Nothing answers at unix:/nonexistent/gateway.\n")


class Rubbish(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(65536)
        self.request.sendall(b"SSH-2.0-OpenSSH\r\n")


@pytest.mark.usefixtures("environ")
def test_something_else_answers(gateway: FakeGateway, tortxd: Run) -> None:
    gateway.answers["/health"] = Canned(b"<html>", 200, (("Content-Type", "text/html"),))
    assert tortxd("status", "--gateway", gateway.url)[0] == 3
    gateway.answers["/circuits"] = Canned(b"no", 404, (("Content-Type", "text/html"),))
    _, _, err = tortxd("circuits", "--gateway", gateway.url)
    assert err == f"tortxd: What answers at {gateway.url} is not tortxd.\n"


@pytest.mark.usefixtures("environ")
@pytest.mark.parametrize("value", [[], None, 5, {}, {"status": "up"}])
def test_something_else_answers_in_json(gateway: FakeGateway, tortxd: Run, value: object) -> None:
    for path, words in {
        "/health": "status",
        "/circuits": "circuits",
        "/config": "config",
        "/verify-tor": "verify",
    }.items():
        gateway.answers[path] = said(value)
        status, out, err = tortxd(words, "--gateway", gateway.url)
        assert (status, out) == (3, "")
        assert err == f"tortxd: What answers at {gateway.url} is not tortxd.\n"
    with socketserver.TCPServer(("127.0.0.1", 0), Rubbish) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        assert tortxd("status", "--gateway", url)[2] == (
            f"tortxd: What answers at {url} does not speak HTTP.\n"
        )


@pytest.mark.usefixtures("environ")
def test_what_a_gateway_says_is_bounded(
    gateway: FakeGateway, tortxd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.answers["/circuits"] = Canned(b"[" * 100_000)
    assert tortxd("circuits", "--gateway", gateway.url)[0] == 3
    monkeypatch.setattr("tortxd.cli.asking._LONGEST_JSON", 10)
    gateway.answers["/circuits"] = Canned(b'{"circuits": []}')
    assert tortxd("circuits", "--gateway", gateway.url)[0] == 3


@pytest.mark.usefixtures("environ")
def test_a_token_is_wanted(gateway: FakeGateway, tortxd: Run, tmp_path: Path) -> None:
    gateway.answers["/circuits"] = error("unauthorized", "A token is needed.", 401)
    status, _, err = tortxd("circuits", "--gateway", gateway.url)
    assert status == 1
    assert f"{gateway.url} wants a token" in err
    assert "--token-file" in err
    (tmp_path / "t").write_text("wrong-canary")
    named = ("--gateway", gateway.url, "--token-file", str(tmp_path / "t"))
    status, _, err = tortxd("circuits", *named)
    assert err == f"tortxd: {gateway.url} does not take the token in {tmp_path / 't'}.\n"
    (tmp_path / "t").write_text("")
    assert tortxd("circuits", *named)[2] == f"tortxd: {tmp_path / 't'} holds no token.\n"
    (tmp_path / "t").unlink()
    assert "cannot be read: No such file" in tortxd("circuits", *named)[2]


class OverUnix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture
def unix_gateway(gateway: FakeGateway, tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "gateway")
    with OverUnix(path, gateway.server.RequestHandlerClass) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"unix:{path}"
        server.shutdown()


@pytest.mark.usefixtures("environ")
def test_a_unix_socket(unix_gateway: str, gateway: FakeGateway, tortxd: Run) -> None:
    gateway.answers["/circuits"] = said({"circuits": []})
    assert tortxd("circuits", "--gateway", unix_gateway)[0] == 0
    assert gateway.asked[0].headers["Host"] == "localhost"

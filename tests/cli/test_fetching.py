"""``tortxd get``: what is asked, what is written where, and when that is a failure."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import Canned, FakeGateway, error

URL = "http://a.example/x?y=1"
WAY = (
    ("Content-Type", "text/plain"),
    ("Tortxd-Circuit", "12"),
    ("Tortxd-Exit", "C" * 40),
    ("Tortxd-Exit-Address", "192.0.2.7"),
    ("Tortxd-Exit-Country", "de"),
)


@pytest.fixture
def page(found: FakeGateway) -> FakeGateway:
    found.answers["/proxy"] = Canned(b"hello\n", 200, WAY)
    return found


def test_the_body_goes_to_the_output_and_the_way_beside_it(page: FakeGateway, tortxd: Run) -> None:
    status, out, err = tortxd("get", URL)
    assert (status, out) == (0, "hello\n")
    assert err.startswith("200 after 0.")
    assert err.endswith(" s, circuit 12, exit CCCCCCCC (192.0.2.7, de)\n")
    (asked,) = page.asked
    assert (asked.method, asked.path) == ("GET", f"/proxy?url={quote(URL, safe='')}")
    assert tortxd("get", "-s", URL) == (0, "hello\n", "")


def test_a_name_alone_is_a_url(page: FakeGateway, tortxd: Run) -> None:
    tortxd("get", "a.example/x")
    assert page.asked[0].path == "/proxy?url=http%3A%2F%2Fa.example%2Fx"


def test_what_is_sent(page: FakeGateway, tortxd: Run, tmp_path: Path) -> None:
    options = {
        "--isolation": ("Tor-Stream-Isolation", "alice"),
        "--exit-country": ("Tortxd-Exit-Country", "de,fr"),
        "--exit": ("Tortxd-Exit", "C" * 40),
        "--sticky": ("Tortxd-Sticky", "600, strict"),
        "--retry": ("Tortxd-Retry", "2"),
        "--timeout": ("Tortxd-Timeout", "5"),
    }
    words = [word for option, (_, value) in options.items() for word in (option, value)]
    data = tmp_path / "data"
    data.write_bytes(b"\0data")
    assert tortxd("get", "-H", "X-One: 1", "-d", f"@{data}", *words, URL)[0] == 0
    (asked,) = page.asked
    assert (asked.method, asked.body) == ("POST", b"\0data")
    assert asked.headers.items() >= dict(options.values()).items()
    assert asked.headers["X-One"] == "1"
    assert tortxd("get", "-X", "delete", "-d", "x", URL)[0] == 0
    assert page.asked[1].method == "DELETE"


@pytest.mark.parametrize(
    "words",
    [("-H", "no colon"), ("-H", "A: b\r\nX: y"), ("--isolation", "é"), ("-d", "@/nonexistent")],
)
def test_what_cannot_be_sent(page: FakeGateway, tortxd: Run, words: tuple[str, ...]) -> None:
    assert tortxd("get", *words, URL)[0] == 2
    assert not page.asked


def test_the_head_as_well(page: FakeGateway, tortxd: Run) -> None:
    _, out, _ = tortxd("get", "-i", URL)
    head, _, body = out.partition("\r\n\r\n" if "\r\n\r\n" in out else "\n\n")
    assert head.startswith("HTTP/1.1 200 OK")
    assert "Tortxd-Circuit: 12" in head
    assert body == "hello\n"


def test_into_a_file(page: FakeGateway, tortxd: Run, tmp_path: Path) -> None:
    page.answers["/proxy"] = Canned(b"\0\xff" * 100_000, 200, WAY)
    assert tortxd("get", "-o", str(tmp_path / "file"), URL)[:2] == (0, "")
    assert (tmp_path / "file").read_bytes() == b"\0\xff" * 100_000
    status, _, err = tortxd("get", "-o", str(tmp_path / "no" / "file"), URL)
    assert status == 1
    assert err.endswith("cannot be written: No such file or directory.\n")


def test_a_body_that_breaks_off_is_a_failure(page: FakeGateway, tortxd: Run) -> None:
    page.answers["/proxy"] = Canned(b"half", 200, WAY, length=8)
    status, out, err = tortxd("get", URL)
    assert (status, out) == (1, "half")
    assert err == "tortxd: The response broke off after 4 B: what was written is not all of it.\n"


def test_errors_of_the_gateway_are_failures(page: FakeGateway, tortxd: Run) -> None:
    page.answers["/proxy"] = error("resolve_failed", "The name could not be resolved.", 502)
    assert tortxd("get", URL) == (
        1,
        "",
        "tortxd: The name could not be resolved. (resolve_failed)\n",
    )
    page.answers["/proxy"] = error("tor_not_ready", "Tor is not ready yet, but at 45 %.", 503)
    assert tortxd("get", URL) == (4, "", "tortxd: Tor is not ready yet, but at 45 %.\n")


def test_errors_of_the_destination_are_answers(page: FakeGateway, tortxd: Run) -> None:
    page.answers["/proxy"] = Canned(b"gone", 404, WAY)
    assert tortxd("get", URL)[:2] == (0, "gone")
    status, out, err = tortxd("get", "-f", URL)
    assert (status, out) == (1, "gone")
    assert err.endswith("tortxd: The destination answered 404.\n")


def redirect(status: int, to: str = "http://b.example/") -> Canned:
    location = f"/proxy?url={quote(to, safe='')}&redirected=1"
    headers = (("Location", location), ("Tortxd-Location", to), *WAY)
    return Canned(b"", status, headers)


def test_redirects_are_told_or_followed(page: FakeGateway, tortxd: Run) -> None:
    page.answers["/proxy"] = redirect(302)
    assert tortxd("get", URL)[2].endswith("redirects to http://b.example/ (-L follows)\n")
    page.answers["/proxy"] = [redirect(302), redirect(307), Canned(b"there", 200, WAY)]
    assert tortxd("get", "-L", "-s", URL) == (0, "there", "")
    assert page.asked[-1].path == "/proxy?url=http%3A%2F%2Fb.example%2F&redirected=1"
    page.answers["/proxy"] = redirect(302)
    assert tortxd("get", "-L", URL)[2] == (
        "tortxd: The destination redirects more than 20 times.\n"
    )


@pytest.mark.parametrize(
    ("status", "method", "body"), [(302, "GET", b""), (303, "GET", b""), (307, "POST", b"x")]
)
def test_what_becomes_of_data_at_a_redirect(
    page: FakeGateway, tortxd: Run, status: int, method: str, body: bytes
) -> None:
    page.answers["/proxy"] = [redirect(status), Canned(b"there", 200, WAY)]
    assert tortxd("get", "-L", "-s", "-d", "x", URL)[1] == "there"
    assert (page.asked[1].method, page.asked[1].body) == (method, body)


def test_a_redirect_elsewhere_is_not_followed(page: FakeGateway, tortxd: Run) -> None:
    """Only by way of /proxy does it go through Tor."""
    elsewhere = (("Location", "http://b.example/"), *WAY)
    page.answers["/proxy"] = Canned(b"", 302, elsewhere)
    assert tortxd("get", "-L", URL)[0] == 0
    assert len(page.asked) == 1


def test_as_json(page: FakeGateway, tortxd: Run) -> None:
    value = json.loads(tortxd("get", "--json", URL)[1])
    assert (value["status"], value["body"], value["bytes"]) == (200, "hello\n", 6)
    assert ["Tortxd-Circuit", "12"] in value["headers"]
    page.answers["/proxy"] = Canned(b"\xff", 200, WAY)
    assert json.loads(tortxd("get", "--json", URL)[1])["body"] is None


@pytest.mark.parametrize("charset", ["nonsense", "base64", "a%00b", "idna"])
def test_a_charset_that_is_none_leaves_out_the_text(
    page: FakeGateway, tortxd: Run, charset: str
) -> None:
    kind = (("Content-Type", f'text/plain; charset="{charset}"'),)
    page.answers["/proxy"] = Canned(b"\xff", 200, kind)
    status, out, _ = tortxd("get", "--json", URL)
    assert status == 0
    assert (json.loads(out)["body"], json.loads(out)["bytes"]) == (None, 1)


def test_a_body_without_end_is_none_for_json(
    page: FakeGateway, tortxd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tortxd.cli.sinks.LONGEST", 5)
    status, out, err = tortxd("get", "--json", URL)
    assert (status, out) == (1, "")
    assert "save it with -o FILE" in err


def test_a_body_that_breaks_off_is_no_json(page: FakeGateway, tortxd: Run) -> None:
    page.answers["/proxy"] = Canned(b"half", 200, WAY, length=8)
    status, out, err = tortxd("get", "--json", URL)
    assert (status, out) == (1, "")
    assert "broke off" in err


def test_no_body_moves_the_cursor_of_a_terminal(
    page: FakeGateway, tortxd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte of a character may come in the next piece."""
    monkeypatch.setattr("tortxd.cli.fetching._PIECE", 1)
    body = "\x1b]0;title\x07\u00e9\u009b2J\tb\r\n".encode()
    page.answers["/proxy"] = Canned(body, 200, WAY)
    assert tortxd("get", "-s", URL)[1].encode() == body
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert tortxd("get", "-s", "-o", "-", URL)[1].encode() == body
    shown = tortxd("get", "-s", URL)[1]
    assert shown == "\ufffd]0;title\ufffd\u00e9\ufffd2J\tb\r\n"

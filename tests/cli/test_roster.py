"""Which members a fleet has, what they are called, and who gets which token."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Fleet, Run
from tests.cli.fake import FakeGateway
from tortxd.cli.failures import UsageFailed
from tortxd.cli.roster import Roster, choose, short_names
from tortxd.runtime import Running, announce, run_dirs


@pytest.mark.parametrize(
    ("urls", "names"),
    [
        (["http://10.0.0.1:3081", "http://10.0.0.2:3081"], ["10.0.0.1", "10.0.0.2"]),
        (["http://localhost:3080", "http://localhost:3081"], ["localhost:3080", "localhost:3081"]),
        (["http://a-1.ns.svc:3081", "http://a-2.ns.svc:3081"], ["a-1", "a-2"]),
        (["http://a.x.example:80", "http://a.y.example:80"], ["a.x.example", "a.y.example"]),
        (["http://[::1]:1", "http://[::1]:2"], ["[::1]:1", "[::1]:2"]),
        (["unix:/run/a/http", "unix:/run/b/http"], ["/run/a/http", "/run/b/http"]),
        (["unix:/run/a", "http://b.example:80"], ["a", "b"]),
        (["http://a:80", "https://a:80"], ["http://a:80", "https://a:80"]),
    ],
)
def test_names_are_as_short_as_is_distinct(urls: list[str], names: list[str]) -> None:
    assert short_names(urls) == names


def chosen(environ: dict[str, str], text: str, *named: str, token: str | None = None) -> Roster:
    file = Path(environ["HOME"]) / "fleet.toml"
    file.write_text(text)
    return choose(named, str(file), token, environ)


TWO = """
token_file = "all"
[members.paris]
gateway = "http://10.0.0.1:3081"
[members.oslo-2]
gateway = "10.0.0.2:3081"
token_file = "/run/oslo"
client_token_file = "clients"
"""


def test_a_file_has_members_with_their_tokens(environ: dict[str, str]) -> None:
    folder = Path(environ["HOME"])
    roster = chosen(environ, TWO)
    assert roster.is_fleet
    gateways = [(one.name, *one.asker.gateway[:3]) for one in roster.members]
    assert gateways == [
        ("paris", "http://10.0.0.1:3081", folder / "all", folder / "all"),
        ("oslo-2", "http://10.0.0.2:3081", Path("/run/oslo"), folder / "clients"),
    ]
    for one in chosen(environ, TWO, token="/run/mine").members:
        assert set(one.asker.gateway[1:3]) == {Path("/run/mine")}


def test_no_token_is_guessed(environ: dict[str, str]) -> None:
    """One lies where a daemon keeps its own, and nobody has said that it is a member's."""
    state = Path(environ["HOME"]) / ".local" / "state" / "tortxd"
    state.mkdir(parents=True)
    (state / "operator-token").write_text("canary")
    (member,) = chosen(environ, '[members.a]\ngateway = "http://10.0.0.1:3081"').members
    assert member.asker.gateway[1:3] == (None, None)


def test_a_member_that_runs_here_has_its_own_token(
    gateway: FakeGateway, environ: dict[str, str], tmp_path: Path
) -> None:
    announcement = announce(run_dirs(environ), Running(1, (gateway.url,), tmp_path / "own", None))
    (member,) = chosen(environ, f'[members.a]\ngateway = "{gateway.url}"').members
    assert member.asker.gateway.token_file == tmp_path / "own"
    announcement.withdraw()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[members", "is not TOML"),
        ("", "names no members"),
        ("members = 3", "names no members"),
        ("[member.a]", "unknown key member. Did you mean members?"),
        ("tokenfile = 'a'", "unknown key tokenfile. Did you mean token_file?"),
        ("[members.a]\ngatewy = '1'", "unknown key members.a.gatewy. Did you mean gateway?"),
        ("[members.a]\ngateway = 3080", "members.a.gateway must be a string."),
        ("[members.a]\ntoken_file = 't'", "members.a has no gateway."),
        ("[members.a]\ngateway = 'ftp://x'", "members.a.gateway takes a URL"),
        ("[members]\na = '3080'", "a is to be a section, [members.a]."),
        ("[members.'a b']\ngateway = '1'", "a member's name has letters"),
        ("[members.'a/b']\ngateway = '1'", "a member's name has letters"),
        ("[members.a]\ngateway = '1'\n[members.b]\ngateway = '1'", "a and b have the same"),
    ],
)
def test_what_is_no_fleet(environ: dict[str, str], text: str, sentence: str) -> None:
    with pytest.raises(UsageFailed) as failed:
        chosen(environ, text)
    assert str(failed.value).startswith(f"--fleet: {environ['HOME']}/fleet.toml")
    assert sentence in str(failed.value)


def test_a_file_that_is_not_there(environ: dict[str, str], tortxd: Run) -> None:
    status, _, err = tortxd("status", "--fleet", f"{environ['HOME']}/x")
    assert status == 2
    assert (
        err == f"tortxd: --fleet: {environ['HOME']}/x cannot be read: No such file or directory.\n"
    )


def test_members_of_a_file_are_chosen_by_name(environ: dict[str, str]) -> None:
    one = chosen(environ, TWO, "paris")
    assert (one.is_fleet, [member.name for member in one.members]) == (False, ["paris"])
    both = chosen(environ, TWO, "oslo-2", "paris", "paris")
    assert (both.is_fleet, [member.name for member in both.members]) == (True, ["oslo-2", "paris"])
    with pytest.raises(UsageFailed, match=r"no member 'pari'\. Did you mean paris\?"):
        chosen(environ, TWO, "pari")


def test_the_variable_names_the_file(
    fleet: Fleet, tortxd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORTXD_FLEET", str(fleet.file))
    assert tortxd("status")[1].startswith("3 of 3 members serve requests\n")
    # Another gateway is asked all the same, and commands that take one have a member's name.
    assert tortxd("status", "--gateway", fleet.b.url)[1].startswith("Tor is ready\n")
    assert tortxd("dashboard", "--gateway", "b")[1] == f"{fleet.b.url}/?token=token-canary\n"
    status, _, err = tortxd("dashboard")
    assert (status, "the member's name" in err) == (2, True)
    # An option counts for more than a variable.
    monkeypatch.setenv("TORTXD_GATEWAY", "http://nobody.example")
    assert tortxd("status", "--fleet", str(fleet.file))[0] == 0


def test_gateways_that_are_named_are_a_fleet(fleet: Fleet, tortxd: Run) -> None:
    a, b = (fake.url.removeprefix("http://") for fake in fleet[:2])
    _, out, _ = tortxd("status", "--gateway", a, "--gateway", b)
    assert [line.split()[0] for line in out.splitlines()[2:]] == [a, b]
    # Twice the same is one.
    assert tortxd("status", "--gateway", a, "--gateway", a)[1].startswith("Tor is ready\n")

"""The command as a whole: its help, its start, and how it is completed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.conftest import Run
from tests.cli.fake import FakeGateway
from tortxd.cli import words
from tortxd.cli.main import _ENTRIES, cli

CODE = "from tortxd.cli.main import main; main()"


def as_process(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_every_command(tortxd: Run) -> None:
    _, out, _ = tortxd("--help")
    for name, entry in _ENTRIES.items():
        assert f"  {name} " in out
        assert entry.summary in out


@pytest.mark.parametrize("name", _ENTRIES)
def test_every_command_has_its_help(name: str) -> None:
    command = cli.get_command(CliRunner().isolated_filesystem, name)  # type: ignore[arg-type]
    assert command is not None
    assert command.name == name
    assert command.help


def test_an_unknown_command_and_option(tortxd: Run) -> None:
    for words_given in (("nonsense",), ("status", "--nonsense"), ("get",)):
        status, _, err = tortxd(*words_given)
        assert status == 2
        assert "Error:" in err


@pytest.mark.parametrize("command", ["status", "circuits --json", "get http://a.example/"])
def test_a_plain_request_imports_no_twisted(found: FakeGateway, command: str) -> None:
    """Nor rich, where there is no terminal: it is to start at once."""
    code = f"""
import sys
from tortxd.cli.main import run
run({command.split()!r})
names = ("twisted", "rich", "treq", "klein", "txtorcon", "attr", "asyncio")
sys.exit(", ".join(name for name in names if name in sys.modules) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert found.asked


def test_a_reader_that_has_enough_is_no_failure(found: FakeGateway) -> None:
    command = [sys.executable, "-c", CODE, "circuits"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert found.asked


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_it(shell: str) -> None:
    done = as_process(_TORTXD_COMPLETE=f"{shell}_source")
    assert done.returncode == 0, done.stderr
    assert "tortxd" in done.stdout


def test_serve_is_twistd(tmp_path: Path) -> None:
    done = as_process("serve", "--help")
    assert done.returncode == 0
    assert "--control-password-file" in done.stdout
    refused = as_process("serve", "--http", "tcp:3080", "--data-dir", str(tmp_path))
    assert refused.returncode != 0
    assert "listens on more than loopback" in refused.stderr + refused.stdout


def test_dashboard_prints_the_address_where_there_is_no_browser(
    found: FakeGateway, tortxd: Run
) -> None:
    assert tortxd("dashboard") == (0, f"{found.url}/?token=token-canary\n", "")
    assert json.loads(tortxd("dashboard", "--json")[1]) == {
        "url": f"{found.url}/?token=token-canary"
    }


def test_dashboard_opens_a_browser(
    found: FakeGateway, tortxd: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")

    def open_it(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", open_it)
    status, out, _ = tortxd("dashboard")
    assert (status, opened) == (0, [f"{found.url}/?token=token-canary"])
    assert "canary" not in out
    assert tortxd("dashboard", "--print")[1] == f"{found.url}/?token=token-canary\n"


@pytest.mark.usefixtures("environ")
def test_dashboard_needs_a_token(gateway: FakeGateway, tortxd: Run) -> None:
    status, out, err = tortxd("dashboard", "--gateway", gateway.url)
    assert (status, out) == (1, "")
    assert "--token-file" in err
    assert tortxd("dashboard", "--gateway", "unix:/x")[0] == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "40 ms"), (1.4, "1 s"), (75, "1 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_ages_in_words(seconds: float, text: str) -> None:
    assert words.age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e7, "20 MB"), (3e13, "30.0 TB")],
)
def test_sizes_in_words(count: float, text: str) -> None:
    assert words.size(count) == text

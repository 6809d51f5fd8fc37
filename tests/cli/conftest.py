"""What tests of the command share: a gateway that is played, and one that is found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.fake import CIRCUIT, HEALTH, REQUESTS, STREAM, FakeGateway, said
from tortxd.cli.asking import Asker
from tortxd.cli.gateways import Gateway
from tortxd.cli.main import run
from tortxd.cli.roster import Member
from tortxd.runtime import Running, announce, run_dirs

Run = Callable[..., tuple[int, str, str]]


class Fleet(NamedTuple):
    """Gateways that are played, and the file that has them."""

    a: FakeGateway
    b: FakeGateway
    c: FakeGateway
    file: Path

    def stop(self, fake: FakeGateway) -> None:
        """Have one not be reached any more."""
        fake.server.shutdown()
        fake.server.server_close()


def members(fleet: Fleet) -> list[Member]:
    return [
        Member(name, Asker(Gateway(fake.url))) for name, fake in zip("abc", fleet[:3], strict=True)
    ]


@contextmanager
def playing() -> Iterator[FakeGateway]:
    """A gateway that has a circuit, a stream and a request that failed."""
    fake = FakeGateway()
    fake.start()
    thread = threading.Thread(target=fake.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fake.answers = {
        "/health": said(HEALTH),
        "/circuits": said({"circuits": [CIRCUIT]}),
        "/streams": said({"streams": [STREAM]}),
        "/requests": said(REQUESTS),
    }
    yield fake
    fake.server.shutdown()
    fake.server.server_close()
    thread.join()


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with playing() as fake:
        yield fake


@pytest.fixture
def fleet(environ: dict[str, str], tmp_path: Path) -> Iterator[Fleet]:
    """Three gateways, as the members a, b and c of a file."""
    with ExitStack() as stack:
        a, b, c = (stack.enter_context(playing()) for _ in range(3))
        (tmp_path / "token").write_text("token-canary")
        lines = ['token_file = "token"']
        for name, fake in {"a": a, "b": b, "c": c}.items():
            lines += [f"[members.{name}]", f'gateway = "{fake.url}"']
        (tmp_path / "fleet.toml").write_text("\n".join(lines))
        yield Fleet(a, b, c, tmp_path / "fleet.toml")


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Where the command looks for daemons, and finds none."""
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    found = {"XDG_RUNTIME_DIR": str(runtime), "HOME": str(tmp_path)}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "TORTXD_GATEWAY", "TORTXD_FLEET", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return found


@pytest.fixture
def found(gateway: FakeGateway, environ: dict[str, str], tmp_path: Path) -> Iterator[FakeGateway]:
    """The gateway of a daemon of this user that runs."""
    token = tmp_path / "operator-token"
    token.write_text("token-canary\n")
    announcement = announce(run_dirs(environ), Running(1, (gateway.url,), token, None))
    yield gateway
    announcement.withdraw()


@pytest.fixture
def tortxd(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command: exit status, output and error output."""

    def command(*arguments: str) -> tuple[int, str, str]:
        status = run(arguments)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return command

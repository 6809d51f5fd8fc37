"""tools/setup.sh where something is missing, refused or out of reach: what it says, and its status.

It runs in a folder of its own, with stand-ins for what could change the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).resolve().parents[1]
NOWHERE = "http://127.0.0.1:9/simple"
"""A package index that refuses connections: nothing listens on port 9 (discard)."""
BY_HAND = "As root: apt-get update && apt-get install --no-install-recommends"
LOG_CALL = '{ printf "%s" "$*" | tr "\\n" " "; echo; } >>"$CALLS/${0##*/}"\n'


@frozen
class Place:
    """A clone with a .venv that is complete, and a folder of programs that come first on PATH."""

    root: Path

    @property
    def calls(self) -> Path:
        return self.root / "calls"

    def program(self, name: str, script: str) -> None:
        """A stand-in; its calls are kept."""
        file = self.root / "bin" / name
        file.write_text(f"#!/bin/sh\n{LOG_CALL}{script}\n")
        file.chmod(0o755)

    def calls_of(self, name: str) -> list[str]:
        file = self.calls / name
        return file.read_text().splitlines() if file.exists() else []

    def holds(self, lock: str) -> None:
        """Say that .venv holds what this lock names."""
        installed = f"{self.root}\n{(self.root / lock).read_text()}"
        (self.root / ".venv" / "installed-lock").write_text(installed)

    def path_without(self, name: str) -> str:
        """A PATH with every program of this machine's but one."""
        (self.root / "bin" / name).unlink()
        for folder in ("/usr/local/bin", "/usr/bin", "/bin"):
            for file in Path(folder).iterdir():
                there = self.root / "bin" / file.name
                if file.name != name and not os.path.lexists(there):
                    there.symlink_to(file)
        return str(self.root / "bin")

    def without_root(self) -> None:
        self.program("id", "echo 1000")

    def __call__(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        own.pop("PYTHON", None)
        path = f"{self.root / 'bin'}:{own['PATH']}"
        return subprocess.run(
            [self.root / "tools" / "setup.sh", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env={**own, "PATH": path, "CALLS": str(self.calls), **environ},
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    there = Place(tmp_path)
    for folder in ("bin", "calls", "tools", "tortxd", ".venv/bin", ".venv/lib"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("tools/setup.sh", "pyproject.toml", "setup.py", "tortxd/_version.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "requirements.lock").write_text("a-nothing==1.0\n")
    (tmp_path / "requirements-dev.lock").write_text("a-nothing==1.0\nb-nothing==1.0\n")
    there.holds("requirements-dev.lock")
    project = [tmp_path / name for name in ("pyproject.toml", "setup.py", "tortxd/_version.py")]
    (tmp_path / ".venv/installed-project").write_bytes(b"".join(p.read_bytes() for p in project))
    # A link would lead past the virtualenv that it is in.
    python = tmp_path / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    there.program("id", "echo 0")
    there.program("apt-get", 'case $1 in install) echo "2 newly installed"; esac')
    there.program("curl", "")
    return there


def pip(place: Place, script: str) -> None:
    """Have the .venv's Python do this instead of pip."""
    file = place.root / ".venv/bin/python"
    file.unlink()
    file.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "-m pip" ] || exec {sys.executable} "$@"\n'
        f'shift\nset -- pip "$@"\nprintf "%s\\n" "$*" >>"$CALLS/pip"\n{script}\n'
    )
    file.chmod(0o755)


def refusal(ran: subprocess.CompletedProcess[str]) -> str:
    """The one sentence with which it failed."""
    assert ran.returncode == 1, ran
    (line,) = ran.stderr.splitlines()
    return line.removeprefix("tortxd: ")


# --- the system's packages ------------------------------------------------------------------------


def test_nothing_is_done_where_everything_is_there(place: Place) -> None:
    for arguments in ([], ["--run"]):
        ran = place(*arguments)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert place.calls_of("apt-get") == []


def test_without_sudo_one_is_told_what_root_must_type(place: Place) -> None:
    place.without_root()
    place.program("sudo", "exit 1")
    said = refusal(place("no-such-program:a-package", "another"))
    assert said.endswith(f"{BY_HAND} a-package another")
    assert place.calls_of("sudo") == ["-n true"], "it has no terminal to ask at"
    assert place.calls_of("apt-get") == []


def test_root_is_become_once_and_old_package_lists_will_do(place: Place) -> None:
    place.without_root()
    place.program("sudo", '[ "$1" = -n ] || exec "$@"')
    place.program("apt-get", '[ "$1" = install ] || exit 100')
    ran = place("no-such-program:a-package")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(place.calls_of("sudo")) == 2, "once to see whether it would, once to do it"
    update, install = place.calls_of("apt-get")
    assert update.startswith("update")
    assert install.endswith("--no-install-recommends a-package")


def test_a_refused_sudo_is_said(place: Place) -> None:
    place.without_root()
    place.program("sudo", '[ "$1" = -n ]')
    said = refusal(place("no-such-program:a-package"))
    assert said.startswith("sudo was refused")
    assert said.endswith(f"{BY_HAND} a-package")


def test_packages_that_cannot_be_fetched_are_one_sentence(place: Place) -> None:
    place.program(
        "apt-get",
        'echo "W: Failed to fetch http://deb.example/dists/x  Temporary failure resolving it" >&2\n'
        '[ "$1" = update ] || { echo "E: Unable to locate package a-package" >&2; exit 100; }',
    )
    said = refusal(place("no-such-program:a-package"))
    assert "could not be fetched (Temporary failure resolving it)" in said
    assert " a-package." in said


def test_what_apt_says_itself_is_shown(place: Place) -> None:
    place.program("apt-get", '[ "$1" = update ] || { echo "E: Could not get lock" >&2; exit 100; }')
    ran = place("no-such-program:a-package")
    assert ran.returncode == 1
    first, second = ran.stderr.splitlines()
    assert first == "E: Could not get lock"
    assert second.startswith("tortxd: These packages could not be installed: a-package.")


def test_it_goes_without_curl_where_it_must(place: Place) -> None:
    place.without_root()
    place.program("sudo", "exit 1")
    ran = place("--run", PATH=place.path_without("curl"))
    assert ran.returncode == 0
    assert ran.stderr.endswith(f"{BY_HAND} curl\n")


def test_without_apt_one_is_told_what_is_missing(place: Place) -> None:
    place.program("sudo", "")
    said = refusal(place("no-such-program:a-package", PATH=place.path_without("apt-get")))
    assert said == (
        "These are missing: a-package. Install them with the system's package manager, then try "
        "again."
    )
    assert place.calls_of("sudo") == []


# --- Python ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (None, "PYTHON=own-python: there is no such program."),
        ("exit 1", "PYTHON=own-python is not a Python that works."),
        ("", "PYTHON=own-python is not a Python that works."),
        (
            "case $2 in *platform*) echo 3.9.2 ;; *) exit 1; esac",
            "PYTHON=own-python is Python 3.9.2. tortxd needs 3.11 or newer.",
        ),
    ],
    ids=["absent", "failing", "no-python", "old"],
)
def test_a_python_that_was_named_is_not_passed_over(
    place: Place, script: str | None, sentence: str
) -> None:
    if script is not None:
        place.program("own-python", script)
    assert refusal(place(PYTHON="own-python")) == sentence


def test_the_venv_is_of_the_python_that_was_named(place: Place) -> None:
    ran = place(PYTHON=sys.executable)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    place.program(
        "own-python",
        f'case "$*" in *sys.version,*) echo other; exit ;; "-m venv"*) exit 1; esac\n'
        f'exec {sys.executable} "$@"',
    )
    assert "could not be made" in refusal(place(PYTHON="own-python"))
    assert "-m venv --clear .venv" in place.calls_of("own-python")


# --- Python packages ------------------------------------------------------------------------------

COLLECTED = """\
echo "Ignoring c-nothing: markers don't match your environment"
echo "Requirement already satisfied: a-nothing==1.0 in ./.venv/lib"
echo "Collecting b-nothing==1.0"
"""
"""As pip says it from Debian 12's 23.0 on."""


def test_the_tools_are_added_to_what_running_needs(place: Place) -> None:
    place.holds("requirements.lock")
    pip(place, "")
    assert place("--run").returncode == 0
    assert place.calls_of("pip") == []
    assert place().returncode == 0
    (call,) = place.calls_of("pip")
    assert call.endswith("--requirement requirements-dev.lock")
    assert place().returncode == place("--run").returncode == 0
    assert len(place.calls_of("pip")) == 1, "what has the tools has all that running needs"


def test_progress_is_said_while_packages_load(place: Place) -> None:
    place.holds("requirements.lock")
    with (place.root / "requirements-dev.lock").open("a") as lock:
        lock.write("c-nothing==1.0 ; os_name == 'nt'\n")
    # Its report has been made when it sleeps again.
    place.program("sleep", "exec /bin/sleep 0.05")
    pip(place, f'{COLLECTED}until [ "$(grep -c . "$CALLS/sleep" 2>&-)" -gt 2 ]; do :; done')
    assert place().stdout.splitlines()[1:] == ["  loaded 2 of 2", "  all 2 are there"]


def test_a_failing_pip_is_a_failure(place: Place) -> None:
    place.holds("requirements.lock")
    pip(place, f'{COLLECTED}echo "ERROR: No matching distribution found" >&2; exit 1')
    for _ in range(2):
        ran = place()
        assert ran.returncode == 1
        first, second = ran.stderr.splitlines()
        assert first == "ERROR: No matching distribution found"
        assert second.startswith("tortxd: The Python packages could not be installed.")


def test_an_index_out_of_reach_is_one_sentence(place: Place) -> None:
    place.holds("requirements.lock")
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": NOWHERE, "PIP_RETRIES": "1"}
    assert refusal(place(**settings)) == (
        f"The Python package index, {NOWHERE}, could not be reached (Failed to establish a new "
        "connection: [Errno 111] Connection refused). Check this machine's connection, then try "
        "again."
    )

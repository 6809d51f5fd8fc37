"""What must be made before anything can be measured. It lies in ``.bench``, which git ignores."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MADE = ROOT / ".bench"
NATIVE = Path(__file__).parent / "native"

_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


class BuildError(Exception):
    """Something could not be made; the sentence says what, and what its maker said."""


def native(name: str) -> Path:
    """The program that ``native/NAME.c`` becomes, made anew where a source has changed."""
    program = MADE / name
    sources = [NATIVE / f"{name}.c", *NATIVE.glob("*.h")]
    changed = max(source.stat().st_mtime for source in sources)
    if not program.exists() or program.stat().st_mtime < changed:
        MADE.mkdir(exist_ok=True)
        run("gcc", *_FLAGS, "-o", str(program), str(sources[0]), "-lssl", "-lcrypto")
    return program


def run(*command: str, folder: Path = ROOT, seconds: float = 600) -> None:
    """Run a command to its end. Raises BuildError with the end of what it says where it fails."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip().splitlines()
        raise BuildError(f"{command[0]}: {' '.join(said[-3:]) or 'it failed'}")

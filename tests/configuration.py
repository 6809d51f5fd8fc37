"""Makes configurations as the command line, the environment and files give them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tortxd.config import DaemonConfig

HOME = {"HOME": "/home/someone"}


def load(environ: Mapping[str, str] | None = None, /, **options: object) -> DaemonConfig:
    return DaemonConfig.load(options, {**HOME, **(environ or {})})


def toml(path: Path, text: str) -> str:
    file = path / "tortxd.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)

"""Where the manual lies: beside the package of a clone, or installed in ``share/doc/tortxd``."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path


def manual(name: str) -> Path | None:
    """The file of this name (``configuration.md``, ``examples/browser.html``); None where the
    manual was not installed."""
    beside = Path(__file__).resolve().parents[1] / "docs" / name
    if beside.is_file():
        return beside
    try:
        installed = files("tortxd") or []
    except PackageNotFoundError:
        return None
    found = next((file for file in installed if file.match(f"share/doc/tortxd/{name}")), None)
    return None if found is None else Path(str(found.locate())).resolve()

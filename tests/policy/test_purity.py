"""The policy is pure: what it imports holds no reactor, and costs a start little."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import tortxd.policy

MODULES = sorted(Path(tortxd.policy.__path__[0]).glob("*.py"))
NEEDED = {"attrs", "idna", "publicsuffixlist", "tortxd.errors", "tortxd.policy"} | {
    "tortxd.grammar",
    "tortxd.nearest",
}
LATE = {"idna", "publicsuffixlist"}
IMPURE = {"asyncio", "os", "random", "socket", "subprocess", "threading", "time"}


def imports(node: ast.AST) -> list[str]:
    found: list[str] = []
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            found += [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            found.append(child.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name in imports(tree):
        top = name.partition(".")[0]
        assert top in sys.stdlib_module_names or any(name.startswith(ours) for ours in NEEDED)
        assert top not in IMPURE
    at_once = {
        n for s in tree.body if isinstance(s, ast.Import | ast.ImportFrom) for n in imports(s)
    }
    assert LATE.isdisjoint(at_once)

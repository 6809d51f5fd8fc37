"""The code in the documentation: it is Python, its imports are there, and the README's app runs."""
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed
from twisted.internet.utils import getProcessOutputAndValue

from tests.docs.documents import DOCUMENTS, ROOT, blocks, read
from tests.docs.programs import environment
from tortxd.testing import Origin, PrivateNetwork

SNIPPETS = [
    pytest.param(snippet, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    for number, snippet in enumerate(blocks(document.read_text(encoding="utf-8"), "python"), 1)
]


def test_there_are_some() -> None:
    assert len(SNIPPETS) > 5


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_are_python_with_imports_that_are_there(snippet: str) -> None:
    tree = compile(snippet, "snippet", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), alias.name


@ensureDeferred
async def test_the_application_of_the_readme(
    tor_network: PrivateNetwork, tor_origin: Origin, tmp_path: Path
) -> None:
    (program,) = (one for one in blocks(read("README.md"), "python") if "task.react" in one)
    reactor: Any = installed
    out, err, code = await getProcessOutputAndValue(
        sys.executable,
        ["-c", program],
        env=environment(
            tor_origin,
            TORTXD_CHECK_URL=f"{tor_origin.https}/api/ip",
            TORTXD_DATA_DIR=str(tmp_path / "state"),
            TORTXD_TORRC=str(tor_network.write_client_torrc(tmp_path / "client.torrc")),
        ),
        path=str(ROOT),
        reactor=reactor,
    )

    assert (code, err) == (0, b"")
    answer, *paths = out.decode().splitlines()
    assert ast.literal_eval(answer)["IsTor"] is True
    assert any(len(path.split(" > ")) == 3 for path in paths)

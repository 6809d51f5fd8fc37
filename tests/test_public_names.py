"""What `tortxd` exports: all of it is described, typed and cheap to import, and nothing else is."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

import tortxd
from tests.docs.documents import ROOT, blocks, names, read, rows, section
from tortxd import errors, testing
from tortxd.errors import TortxdError

LIBRARY = read("docs/library.md")
ERRORS = {
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, TortxdError)
}


def rows_of_errors() -> Iterator[tuple[type[TortxdError], list[str]]]:
    """Each kind of error that has kinds of its own, and those, as the documentation has them."""
    table = [names(row[0]) for row in rows(section(LIBRARY, "## Public names"))]
    for (base, *more), kinds in pairwise(table):
        if base in ERRORS and not more and len(kinds) > 1:
            yield getattr(errors, base), kinds


def test_the_documentation_lists_the_public_names() -> None:
    table = rows(section(LIBRARY, "## Public names"))
    listed = [name for row in table for name in names(row[0])]
    assert sorted(listed) == sorted(tortxd.__all__)


@pytest.mark.parametrize("name", [*tortxd.__all__, *(f"testing.{one}" for one in testing.__all__)])
def test_every_public_name_is_there_and_described(name: str) -> None:
    module, _, last = name.rpartition(".")
    value = getattr(testing if module else tortxd, last)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__


def test_every_error_is_public() -> None:
    assert len(ERRORS) > 30
    assert set(tortxd.__all__) >= ERRORS


def test_the_documentation_has_the_tree_of_errors() -> None:
    listed = {base: set(kinds) for base, kinds in rows_of_errors()}
    assert set().union(*listed.values()) > {"BadUrl", "TlsFailed", "TorDown"}
    for base, kinds in listed.items():
        assert kinds == {kind.__name__ for kind in base.__subclasses__()}


def test_every_status_is_public() -> None:
    assert {kind.__name__ for kind in tortxd.Status.__args__} <= set(tortxd.__all__)


@pytest.mark.parametrize("document", ["README.md", "docs/library.md", "docs/testing.md"])
def test_the_documentation_imports_public_names_alone(document: str) -> None:
    for snippet in blocks(read(document), "python"):
        assert "tortxd." not in snippet.replace('"tortxd.testing.fixtures"', "")


def test_the_examples_import_public_names_alone() -> None:
    examples = sorted((ROOT / "docs" / "examples").glob("*.py"))
    assert examples
    for example in examples:
        assert "from tortxd." not in example.read_text("utf-8"), example.name


def test_what_is_not_there_is_no_attribute() -> None:
    assert not hasattr(tortxd, "TorHttpsClient")
    assert set(tortxd.__all__) <= set(dir(tortxd))


def test_importing_it_imports_none_of_the_large_libraries() -> None:
    """They take longer than all the rest, and not every program needs them."""
    code = "import sys, tortxd; print(*sorted({'treq', 'klein', 'txtorcon'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_typed_programs_can_use_every_name() -> None:
    """mypy reads that file, which is never run."""
    example = read("tests/typing_app.py")
    assert {name for name in tortxd.__all__ if name not in example} <= ERRORS

"""Imports run one way; each library that installs a reactor has one place.

errors, manual, nearest, rates, addresses, options, config <- policy, wire <- tor <- relay <-
gateway, client <- service <- daemon <- tap, cli; testing apart. Read from the source, so that
imports inside functions count as well.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from attrs import frozen

import tortxd
from tests.docs.documents import names, read, rows, section

PACKAGE = Path(tortxd.__file__).parent
LAYERS = (
    {"_types", "_version", "errors", "files", "grammar", "manual", "nearest"},
    {"addresses", "inherited", "notify", "rates", "resources", "runtime", "writing"},
    {"endpoints", "environment", "splicing"},
    {"options"},
    {"sources"},
    {"config"},
    {"settings"},
    {"policy", "wire"},
    {"tor"},
    {"relay"},
    {"gateway", "client"},
    {"service"},
    {"daemon", "process"},
    {"__init__"},
    {"log_lines"},
    {"console"},
    {"twistd"},
    {"tap", "cli"},
)
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
APART = "testing"


@frozen
class Import:
    """One import statement of one module."""

    module: str
    """The importing module, as ``tor/control.py``."""
    room: str
    imported: str
    """The module, or the name in it, with its full name."""
    in_function: bool
    typing_only: bool


def imports_of(path: Path, root: Path = PACKAGE) -> Iterator[Import]:
    module = path.relative_to(root).as_posix()
    room = module.partition("/")[0].removesuffix(".py")

    def walk(node: ast.AST, in_function: bool, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            names: list[str] = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module} has a relative import"
                names = [f"{child.module}.{alias.name}" for alias in child.names]
            for name in names:
                yield Import(module, room, name, in_function, typing_only)
            yield from walk(
                child,
                in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef),
                typing_only
                or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)),
            )

    return walk(ast.parse(path.read_text("utf-8")), False, False)


EVERY = [found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path)]


def room_of(imported: str) -> str | None:
    """The room of tortxd that an import reaches into; None for other packages."""
    parts = imported.split(".")
    if parts[0] != "tortxd":
        return None
    if len(parts) > 1 and (parts[1] in RANK or parts[1] == APART):
        return parts[1]
    return "__init__"


def users_of(*libraries: str) -> set[str]:
    """The modules that import any of these, or a part of them, other than for types."""
    return {
        one.module
        for one in EVERY
        if not one.typing_only
        and any(f"{one.imported}.".startswith(f"{library}.") for library in libraries)
    }


def test_every_module_has_its_place() -> None:
    assert {one.room for one in EVERY} - {APART} <= set(RANK)
    assert len({one.module for one in EVERY}) > 40


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: "-".join(sorted(layer)))
def test_imports_run_one_way(layer: set[str]) -> None:
    for one in EVERY:
        target = room_of(one.imported)
        if one.room not in layer or target in (None, one.room):
            continue
        if target == APART:
            # The command shows the private network; nothing else knows of it.
            assert one.room == "cli", f"{one.module} imports {one.imported}"
            assert one.in_function, f"{one.module} imports {one.imported} before it is needed"
        else:
            assert RANK[str(target)] < RANK[one.room], f"{one.module} imports {one.imported}"


INSIDE = {
    "gateway": (
        {"answers", "health", "limits", "transports"},
        {"journal", "request_log"},
        {"admission", "disconnects", "load"},
        {"gateway"},
        {"front"},
        {"control"},
    ),
    "relay": (
        {"failures", "journal", "pending", "placement", "timeouts"},
        {"tries", "upstream"},
        {"interfaces"},
        {"attempt"},
        {"outbound"},
        {"endpoint", "exchange", "tunnel"},
        {"direct"},
    ),
}
"""Where a room has rooms of its own, in which order they know each other."""


def part_of(room: str, name: str) -> str | None:
    """The part of a room that a module, written as imports write it, lies in."""
    before, _, rest = name.removeprefix("tortxd.").partition(".")
    return rest.partition(".")[0] if before == room and rest else None


@pytest.mark.parametrize("room", sorted(INSIDE))
def test_imports_run_one_way_inside_a_room(room: str) -> None:
    rank = {part: rank for rank, parts in enumerate(INSIDE[room]) for part in parts}
    parts = {path.stem for path in (PACKAGE / room).iterdir() if path.stem[0] != "_"}
    assert parts == rank.keys()
    for one in EVERY:
        part = part_of(room, one.module.removesuffix(".py").replace("/", "."))
        target = part_of(room, one.imported)
        if part in rank and target in rank and part != target:
            assert rank[str(target)] < rank[str(part)], f"{one.module} imports {one.imported}"


def test_there_is_no_circle() -> None:
    """Not even of imports for types alone."""
    modules = {
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        for path in PACKAGE.rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for one in EVERY:
        name = one.imported.removeprefix("tortxd.")
        while name and name not in modules and f"{name}.__init__" not in modules:
            name = name.rpartition(".")[0]
        graph.setdefault(one.module.removesuffix(".py").replace("/", "."), set()).add(
            name if name in modules else f"{name}.__init__"
        )
    sorter = TopologicalSorter(graph)
    sorter.prepare()  # says which circle there is


def test_testing_stands_apart() -> None:
    reached = {room_of(one.imported) for one in EVERY if one.room == APART}
    assert reached - {None} <= {APART, "errors", "manual"}


def test_policy_knows_nothing_of_twisted() -> None:
    libraries = ("twisted", "treq", "klein", "txtorcon", "automat", "zope")
    assert not {module for module in users_of(*libraries) if module.startswith("policy/")}


def test_wire_does_no_input_or_output() -> None:
    libraries = ("twisted", "socket", "asyncio", "treq", "os", "ssl")
    assert not {module for module in users_of(*libraries) if module.startswith("wire/")}


def test_one_module_knows_txtorcon() -> None:
    assert users_of("txtorcon") == {"tor/control.py"}


def test_one_module_knows_klein() -> None:
    assert users_of("klein") == {"gateway/control/app.py"}


def test_the_reactor_is_a_parameter() -> None:
    """Imported where None stands for the installed one."""
    users = [one for one in EVERY if one.imported.startswith("twisted.internet.reactor")]
    assert all(one.in_function for one in users)
    allowed = {"client/installed.py", "testing/fixtures.py"}
    assert {one.module for one in users} == allowed


def test_client_and_service_take_a_reactor() -> None:
    for name in ("client/installed.py", "service.py"):
        tree = ast.parse((PACKAGE / name).read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "twisted.internet" in ast.unparse(node):
                assert ast.unparse(node.test) == "reactor is None"


@pytest.mark.parametrize("module", ["tortxd", "tortxd.testing", "tortxd.tap", "tortxd.errors"])
def test_importing_installs_no_reactor(module: str) -> None:
    code = f"import sys, {module}; sys.exit('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0


def test_tests_import_no_test_modules() -> None:
    """What several of them use has a module of its own: a test that is moved or renamed breaks no
    other, and whoever reads one need not know the rest."""
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        for one in imports_of(path, here):
            words = one.imported.split(".")
            assert words[0] != "tests" or not any(word.startswith("test_") for word in words), (
                f"{one.module} imports {one.imported}"
            )


def test_the_documentation_has_the_same_order() -> None:
    """docs/architecture.md lists the rooms from the lowest layer up, each with what it knows."""
    table = rows(section(read("docs/architecture.md"), "## Rooms"))
    listed = [([name.strip("/") for name in names(row[0])], row[2]) for row in table]
    documented = {room for rooms, _ in listed for room in rooms}
    there = {one.room for one in EVERY} - {"_version", "__init__"}
    assert there <= documented
    highest = 0
    for rooms, knows in listed:
        ranks = [RANK[room] for room in rooms if room in RANK]
        known = {RANK[word] for word in re.findall(r"\w+", knows) if word in RANK}
        if ranks:
            assert min(ranks) >= highest, f"{rooms} stand too low"
            assert all(rank < min(ranks) for rank in known), f"{rooms} know {knows}"
            highest = max(ranks)
        else:
            assert APART in rooms

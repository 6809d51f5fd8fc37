"""What is installed, and how it is found: the wheel's packages, the plugin, the .tac, Docker."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import tortxd
from tortxd.config import DaemonConfig
from tortxd.daemon import TOR_ENDS_WITHIN
from tortxd.manual import manual

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = (ROOT / "requirements-dev.lock").read_text("utf-8")
RUN_LOCK = (ROOT / "requirements.lock").read_text("utf-8")
COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")
FLEET = (ROOT / "docker-compose.fleet.yml").read_text("utf-8")


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def normal(name: str) -> str:
    """A distribution's name as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE)
    return {normal(name): pinned for name, pinned in found}


# --- the package ----------------------------------------------------------------------------------


def test_setup_names_every_package() -> None:
    setup = ast.parse((ROOT / "setup.py").read_text("utf-8"))
    call = next(node for node in ast.walk(setup) if isinstance(node, ast.Call))
    named = {
        word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg != "data_files"
    }
    there = {
        ".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "tortxd").rglob("*.py")
    }
    assert set(named["packages"]) == there | {"twisted.plugins"}
    assert named["package_dir"] == {"": "."}


def test_every_package_has_an_init() -> None:
    for file in (ROOT / "tortxd").rglob("*.py"):
        assert (file.parent / "__init__.py").exists(), file


def test_the_plugin_directory_is_shared() -> None:
    assert not (ROOT / "twisted" / "__init__.py").exists()
    assert not (ROOT / "twisted" / "plugins" / "__init__.py").exists()
    sources = [file.name for file in (ROOT / "twisted").rglob("*.py")]
    assert sources == ["tortxd_plugin.py"]


def test_the_version_is_that_of_the_metadata() -> None:
    assert tortxd.__version__ == version("tortxd")
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab.]\w+)?", tortxd.__version__)


def test_the_package_is_typed() -> None:
    assert (ROOT / "tortxd" / "py.typed").exists()


def test_the_manual_is_beside_a_clone() -> None:
    assert manual("configuration.md") == ROOT / "docs" / "configuration.md"
    assert manual("nonsense.md") is None


def test_the_source_distribution_is_the_whole_repository() -> None:
    """What setuptools takes by itself is half of the tests, for one, without what they import."""
    manifest = (ROOT / "MANIFEST.in").read_text("utf-8")
    named = " ".join(re.findall(r"^(?:include|graft) (.+)$", manifest, re.MULTILINE)).split()
    assert all(any(ROOT.glob(pattern)) for pattern in named)
    by_itself = {"LICENSE", "MANIFEST.in", "pyproject.toml", "setup.py", "tortxd", "twisted"}
    for name in tracked():
        assert name in by_itself or any(fnmatch(name, pattern) for pattern in named), name


def tracked() -> set[str]:
    """What the repository holds at its root; nothing where git is not there to ask."""
    if shutil.which("git") is None:
        return set()
    asked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    return {name.partition("/")[0] for name in asked.stdout.splitlines()}


# --- twistd ---------------------------------------------------------------------------------------


def test_twistd_lists_the_plugin(tmp_path: Path) -> None:
    ran = python("-c", "from twisted.scripts.twistd import run; run()", "--help", cwd=tmp_path)
    assert re.search(r"^ +tortxd +An HTTP gateway to Tor", ran.stdout, re.MULTILINE), ran.stderr


def test_the_plugin_installs_no_reactor(tmp_path: Path) -> None:
    code = (
        "import sys, twisted.plugins.tortxd_plugin as plugin;"
        "assert plugin.tortxd.tapname == 'tortxd';"
        "sys.exit('twisted.internet.reactor' in sys.modules)"
    )
    ran = python("-c", code, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr


def test_the_tac_makes_the_daemon(tmp_path: Path) -> None:
    code = (
        "import sys; from twisted.application.service import loadApplication, IServiceCollection;"
        "application = loadApplication(sys.argv[1], 'python');"
        "daemon, = IServiceCollection(application);"
        "print(type(daemon).__module__, type(daemon).__name__)"
    )
    ran = python("-c", code, str(ROOT / "tortxd.tac"), cwd=tmp_path)
    assert ran.stdout == "tortxd.daemon Daemon\n", ran.stderr


# --- the locks ------------------------------------------------------------------------------------


def names(wanted: list[str]) -> set[str]:
    return {normal(re.split(r"[\[<>=~!; ]", each)[0]) for each in wanted}


def test_the_locks_hold_every_dependency() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    extras = PROJECT["optional-dependencies"]
    running = names([*PROJECT["dependencies"], *groups["run"]])
    developing = names([*groups["dev"], *extras["testing"]])
    assert running <= set(locked(RUN_LOCK))
    assert running | developing <= set(locked(LOCK))
    assert set(locked(RUN_LOCK)).isdisjoint(developing - running)


def test_the_locks_agree() -> None:
    assert locked(RUN_LOCK).items() <= locked(LOCK).items()


@pytest.mark.parametrize("lock", [LOCK, RUN_LOCK], ids=["dev", "run"])
def test_a_lock_is_the_same_everywhere(lock: str) -> None:
    lines = [line for line in lock.splitlines() if line and not line.lstrip().startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.+!]+( ; [^/]+)?", line)
    assert "/" not in lock


def test_the_lock_of_running_is_whole() -> None:
    """pip installs it without asking what else is needed."""
    pinned = locked(RUN_LOCK)
    for name in pinned:
        for line in requires(name) or []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert normal(wanted.name) in pinned, f"{name} needs {wanted.name}"


# --- containers -----------------------------------------------------------------------------------


def test_everything_that_the_image_copies_is_there_and_not_ignored() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    passed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line[:1] == "!"
    }
    copied: set[str] = set()
    for arguments in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE):
        words = arguments.split()
        if not any(word.startswith("--from=") for word in words):
            copied |= {word for word in words[:-1] if not word.startswith("--")}
    assert copied == passed
    for name in copied:
        assert (ROOT / name).exists(), name


def test_the_image_serves_as_a_user_without_rights() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    instructions = re.findall(r"^([A-Z]+) (.+)$", dockerfile, re.MULTILINE)
    assert [value for name, value in instructions if name == "USER"] == ["tortxd"]
    (entry,) = [value for name, value in instructions if name == "ENTRYPOINT"]
    assert entry == '["twistd", "-n", "--pidfile=", "tortxd"]'
    assert "TORTXD_OPEN=" not in re.sub(r"^#.*$", "", dockerfile, flags=re.MULTILINE)


def test_the_image_has_what_running_needs_and_asks_whether_it_serves() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert set(re.findall(r"[\w.-]+\.lock", dockerfile)) == {"requirements.lock"}
    assert re.search(r"^HEALTHCHECK .*CMD \[\"container-health\"\]$", dockerfile, re.MULTILINE)
    assert "tools/container_health.py /usr/local/bin/container-health\n" in dockerfile


def check_rights(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "cap_add", "devices", "user"} & service.keys()


def check_published(service: dict[str, Any]) -> None:
    """On loopback alone."""
    assert service["ports"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def check_exposure(service: dict[str, Any]) -> None:
    check_published(service)
    check_rights(service)
    assert service["tmpfs"] == ["/tmp"]
    assert service["volumes"] == ["state:/var/lib/tortxd"]


def uncommented(text: str) -> Any:
    """A compose file with what it says about the token."""
    return yaml.safe_load(re.sub(r"^( *)# (secrets:|  )", r"\1\2", text, flags=re.MULTILINE))


def test_compose_publishes_on_loopback_alone() -> None:
    compose = yaml.safe_load(COMPOSE)
    check_exposure(compose["services"]["tortxd"])
    assert set(compose["volumes"]) == {"state"}


def test_compose_with_its_token_uncommented() -> None:
    compose = uncommented(COMPOSE)
    service = compose["services"]["tortxd"]
    check_exposure(service)
    (name,) = compose["secrets"]
    assert service["secrets"] == [name]
    assert service["environment"]["TORTXD_TOKEN_FILE"] == f"/run/secrets/{name}"


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text.removesuffix("s"))


def test_a_fleet_in_compose_is_published_by_its_balancer_on_loopback_alone() -> None:
    compose = yaml.safe_load(FLEET)
    members, balancer = (compose["services"][name] for name in ("tortxd", "balancer"))
    assert "ports" not in members
    check_published(balancer)
    for service in (members, balancer):
        check_rights(service)
        assert service["networks"] == list(compose["networks"]) == ["members"]
    # Each member has a volume of its own: one with a name would be everyone's.
    assert members["volumes"] == ["/var/lib/tortxd"]
    assert "volumes" not in compose
    # What a container is called, so that others find it, ends with its number.
    assert "container_name" not in members and "hostname" not in members
    assert balancer["environment"]["TORTXD_MEMBER_PREFIX"] == f"{compose['name']}-tortxd-"
    assert balancer["environment"]["TORTXD_MEMBER_SUFFIX"] == ""
    # Not the name that the other file has in a folder called tortxd: it would take over its daemon.
    assert compose["name"] != "tortxd"


def test_variables_of_a_fleet_in_compose_are_known() -> None:
    compose = yaml.safe_load(FLEET)
    variables = compose["services"]["tortxd"]["environment"]
    config = DaemonConfig.load({}, {"HOME": "/home/someone", **variables})
    assert config.probe_address == ("127.0.0.1", 3081)
    grace = seconds(compose["services"]["tortxd"]["stop_grace_period"])
    assert grace >= config.drain + TOR_ENDS_WITHIN + 5

    source, target, mode = compose["services"]["balancer"]["volumes"][0].split(":")
    assert (target, mode) == ("/usr/local/etc/haproxy/haproxy.cfg", "ro")
    configuration = (ROOT / source).read_text("utf-8")
    for name in compose["services"]["balancer"]["environment"]:
        assert f"${{{name}" in configuration
    assert (ROOT / "packaging" / "haproxy.cfg").resolve() == (ROOT / source).resolve()
    published = compose["services"]["balancer"]["ports"][0].rpartition(":")[2]
    assert compose["services"]["balancer"]["environment"]["TORTXD_BIND"] == f":{published}"


def test_a_fleet_in_compose_with_its_token_uncommented() -> None:
    compose = uncommented(FLEET)
    (name,) = compose["secrets"]
    members, balancer = (compose["services"][name] for name in ("tortxd", "balancer"))
    assert members["secrets"] == [name]
    assert members["environment"]["TORTXD_TOKEN_FILE"] == f"/run/secrets/{name}"
    assert balancer["environment"]["TORTXD_TOKEN"].startswith("${TORTXD_TOKEN:?")
    assert compose["secrets"][name]["file"].lstrip("./") in balancer["environment"]["TORTXD_TOKEN"]


@pytest.mark.parametrize(
    "name",
    [
        ".ci/run",
        "tools/container_health.py",
        "tools/setup.sh",
        "tools/try-bare",
        "tools/try-readme",
    ],
)
def test_programs_are_executable(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)


# --- habits ---------------------------------------------------------------------------------------


def test_hooks_run_the_projects_own_tools() -> None:
    """pre-commit would otherwise fetch each of them, in a version of its own."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (repository,) = config["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    checked = re.search(r"^check:.*?^$", makefile, re.MULTILINE | re.DOTALL)
    assert checked is not None
    for hook in repository["hooks"]:
        program, *words = hook["entry"].replace(" --force-exclude", "").split()
        assert program.startswith(".venv/bin/")
        assert " ".join([program.removeprefix(".venv/bin/"), *words]) in checked[0]


def test_a_part_of_the_tests_has_no_floor_of_coverage() -> None:
    def command(*arguments: str) -> str:
        # This may itself be run by a make that has been given some.
        of_make = {"ARGS", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS"}
        environ = {key: value for key, value in os.environ.items() if key not in of_make}
        ran = ["make", "--dry-run", "--no-print-directory", "test", *arguments]
        return subprocess.run(
            ran, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
        ).stdout

    assert "--cov=tortxd" in command()
    assert "fail-under" not in command()
    assert "--cov-fail-under=0" in command("ARGS=-k one")
    coverage = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["coverage"]
    assert coverage["report"]["fail_under"] > 90

"""The manifests of packaging/kubernetes: what kustomize's lists name, as objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = ROOT / "packaging" / "kubernetes"
NAMESPACE = "tortxd"

Object = dict[str, Any]


def kustomization(part: str = ".") -> Object:
    """The list of a folder: ``.``, or a component's."""
    found: Object = yaml.safe_load((KUBERNETES / part / "kustomization.yaml").read_text("utf-8"))
    return found


def objects(*parts: str) -> list[Object]:
    """What the lists of these folders name, in their order."""
    return [one for part in parts for one in _objects_of(part)]


def _objects_of(part: str) -> Iterator[Object]:
    for name in kustomization(part)["resources"]:
        yield from yaml.safe_load_all((KUBERNETES / part / name).read_text("utf-8"))


BASE = objects(".")
ALL = objects(".", "monitoring", "autoscaling")


def the(kind: str, name: str) -> Object:
    """The object of this kind and name."""
    (found,) = (one for one in ALL if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


MEMBERS = the("StatefulSet", "tortxd")
BALANCERS = the("Deployment", "tortxd-balancer")


def pod(owner: Object) -> Object:
    """The template of its pods."""
    template: Object = owner["spec"]["template"]
    return template


def container(owner: Object) -> Object:
    """The one container of its pods."""
    (only,) = pod(owner)["spec"]["containers"]
    found: Object = only
    return found


def environment(owner: Object) -> dict[str, str]:
    """The variables of its container that have a value, as a pod sees them."""
    values = {one["name"]: one["value"] for one in container(owner)["env"] if "value" in one}
    return {name: value.replace("$(POD_NAMESPACE)", NAMESPACE) for name, value in values.items()}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a selector of labels takes what has these."""
    assert selector.keys() == {"matchLabels"}
    wanted: dict[str, str] = selector["matchLabels"]
    return wanted.items() <= labels.items()

"""What a configuration holds and where each value came from, for operators. Secrets are left out:
of files that hold one, only the path is told."""

from __future__ import annotations

from typing import Any

from tortxd.config import DaemonConfig
from tortxd.options import OPTIONS


def describe(config: DaemonConfig) -> list[dict[str, object]]:
    """The options in the order of their table, as the values of JSON: ``name``, ``option`` (on the
    command line), ``value``, ``source`` (``option``, ``environment``, ``file``; ``program``, where
    an app has made the configuration; or ``default``) and ``set``, the name under which it was set,
    or None."""
    default = DaemonConfig(data_dir=config.data_dir)
    return [
        _description(
            option.key,
            option.flag,
            getattr(config, option.key),
            getattr(default, option.key),
            config.set_as,
        )
        for option in OPTIONS
        if hasattr(config, option.key)
    ]


def _description(
    key: str, flag: str, value: object, default: object, set_as: Any
) -> dict[str, object]:
    name = None if set_as is None else set_as.get(key)
    if name is not None:
        source = _source(name)
    else:
        source = "program" if set_as is None and value != default else "default"
    return {
        "name": key,
        "option": f"--{flag}",
        "value": _plain(value),
        "source": source,
        "set": name,
    }


def _source(name: str) -> str:
    if name.startswith("--"):
        return "option"
    return "environment" if name.isupper() else "file"


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(map(_plain, value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)

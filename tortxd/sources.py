"""Where options come from: a TOML file, the environment, the command line. The table of
:mod:`tortxd.options` has all that these may hold; anything else is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tortxd.environment import is_link
from tortxd.errors import SetupError, in_quotes
from tortxd.files import read_whole
from tortxd.nearest import did_you_mean, nearest
from tortxd.options import BY_KEY, FLAG, KEYS, OPTIONS, Option, variable_of

__all__ = ["Setting", "collect", "names"]

_CONFIG = BY_KEY["config"]
_VARIABLES = frozenset(variable.name for option in OPTIONS for variable in option.variables) | {
    "TORTXD_GATEWAY",  # the command's, as is the next
    "TORTXD_FLEET",
}


class Setting(NamedTuple):
    """The value of an option, and the option's name where the value came from, for sentences."""

    value: Any
    name: str


def collect(options: Mapping[str, object], environ: Mapping[str, str]) -> dict[str, Setting]:
    """All settings, by key: those of the file, then the environment's, then the options', each of
    which replaces an earlier one.

    :param options: those of the command line, by key; None, an empty list and a false flag count as
        not given. ``config`` names the file; without it, ``TORTXD_CONFIG`` does.
    :raises SetupError: the file cannot be read, or a name is unknown, or a value of another kind.
    """
    settings: dict[str, Setting] = {}
    if (path := options.get(_CONFIG.key)) is not None:
        settings |= _from_file(str(path), _dashed(_CONFIG))
    elif path := environ.get(variable_of(_CONFIG.key)):
        settings |= _from_file(path, variable_of(_CONFIG.key))
    settings |= _from_environment(environ)
    settings |= _from_options(options)
    return settings


def names(settings: Mapping[str, Setting], *, options: bool) -> dict[str, str]:
    """What sentences call each key: its name where it was set or, if it was not, where it could be.

    :param options: whether that is on the command line, or only in the environment.
    """
    unset = {key: _dashed(BY_KEY[key]) if options else variable_of(key) for key in KEYS}
    return unset | {key: setting.name for key, setting in settings.items()}


# --- the command line -----------------------------------------------------------------------------


def _from_options(options: Mapping[str, object]) -> dict[str, Setting]:
    for unknown in sorted(options.keys() - BY_KEY.keys()):
        hint = _near(unknown, lambda key: _dashed(BY_KEY[key]))
        raise SetupError(f"Unknown option: --{unknown.replace('_', '-')}.{hint}")
    return {
        key: Setting(bool(value) if BY_KEY[key].kind is FLAG else value, _dashed(BY_KEY[key]))
        for key, value in options.items()
        if key != _CONFIG.key and _is_given(BY_KEY[key], value)
    }


def _is_given(option: Option, value: object) -> bool:
    return bool(value) if option.kind is FLAG else value not in (None, (), [])


def _dashed(option: Option) -> str:
    return f"--{option.flag}"


# --- the environment ------------------------------------------------------------------------------


def _from_environment(environ: Mapping[str, str]) -> dict[str, Setting]:
    environ = {name: text for name, text in environ.items() if not is_link(name, text)}
    for name in environ:
        if name.startswith("TORTXD_") and name not in _VARIABLES:
            raise SetupError(f"Unknown environment variable: {name}.{_meant_by(name)}")
    settings = {}
    for option in OPTIONS:
        for variable in reversed(option.variables):
            text = environ.get(variable.name)
            if text and option is not _CONFIG:
                settings[option.key] = Setting(variable.read(text, variable.name), variable.name)
    return settings


def _meant_by(name: str) -> str:
    if name == "TORTXD_PORT":
        return " TORTXD_HTTP says where the gateway listens, and GATEWAY_PORT on which port."
    return _near(name.removeprefix("TORTXD_").lower(), variable_of)


def _near(key: str, spell: Callable[[str], str]) -> str:
    """Which key somebody may have meant, for a sentence."""
    found = nearest(key, sorted(BY_KEY))
    return "" if found is None else f" Did you mean {spell(found)}?"


# --- the file -------------------------------------------------------------------------------------


def _from_file(path: str, name: str) -> dict[str, Setting]:
    """What a TOML file holds; ``name`` is that of the option that names the file."""
    values = _read_toml(path, name)
    for unknown in sorted(values.keys() - KEYS):
        if isinstance(values[unknown], dict):
            raise SetupError(
                f"{name}: unknown section in {path}: {_plain(unknown)}. Keys stand at its "
                "beginning, without one; aliases in [aliases]."
            )
        hint = did_you_mean(unknown, sorted(KEYS))
        raise SetupError(f"{name}: unknown key in {path}: {_plain(unknown)}.{hint}")
    for key, value in values.items():
        kind = BY_KEY[key].kind
        if not kind.fits(value):
            raise SetupError(f"{name}: {key} in {path} must be {kind.in_toml}.")
    return {key: Setting(value, f"{key} in {path}") for key, value in values.items()}


def _read_toml(path: str, name: str) -> dict[str, Any]:
    if not path:
        raise SetupError(f"{name} takes a file.")
    import tomllib  # a start without a file does without

    try:
        return tomllib.loads(read_whole(path).decode())
    except OSError as error:
        raise SetupError(f"{name}: {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise SetupError(f"{name}: {path} is not TOML: {error}.") from error


def _plain(key: str) -> str:
    return key if re.fullmatch(r"[\w-]{1,60}", key, re.ASCII) else in_quotes(key)

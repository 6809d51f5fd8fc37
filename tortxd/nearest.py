"""What somebody may have meant by a name that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_CUTOFF = 0.6
"""How alike two names are, of 1, before one is taken for a slip of the other."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of the ``known`` names that is most like ``name``; None where none is near.

    Case does not count, and ``-`` is ``_``: options, files and the environment write one name in
    different ways.
    """
    by_form = {_form(one): one for one in known}
    found = get_close_matches(_form(name), by_form, 1, _CUTOFF)
    return by_form[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean NAME?``, to go behind the sentence that refuses ``name``; nothing where none
    of the ``known`` names is near (see :func:`nearest`)."""
    found = nearest(name, known)
    return "" if found is None else f" Did you mean {found}?"


def _form(name: str) -> str:
    return name.casefold().replace("-", "_")

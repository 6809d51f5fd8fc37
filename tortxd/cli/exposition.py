"""Prometheus's text format 0.0.4, of several members made into one. Pure.

Samples stay as they are written, but for a label that says whose they are; to read them as numbers
and write these anew could change them. prometheus_client's parser does so, and its import alone
takes longer than the command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

LABEL = "member"
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_HELP = re.compile(rf"# HELP ({_NAME}) ((?:[^\\]|\\[\\n])*)")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge|histogram|summary|untyped)")
_PAIR = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
_SAMPLE = re.compile(
    rf"({_NAME})(?:\{{((?:{_PAIR}(?:,{_PAIR})*,?)?)\}})? "
    r"([+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|Inf|NaN)(?: -?[0-9]+)?)"
)
_PARTS = re.compile(_PAIR)
_SUFFIXES = {
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}


class _Family:
    """A metric: what is said of it, and its samples."""

    def __init__(self) -> None:
        self.help: str | None = None
        self.kind: str | None = None
        self.lines: dict[tuple[str, frozenset[str]], str] = {}
        """By what distinguishes a sample: its name and its labels."""


class Exposition:
    """What several members say, with each family once."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._of: dict[str, str] = {}
        """Of which family a sample's name is."""

    def add(self, member: str, text: str) -> None:
        """What a member says as well.

        :raises ValueError: that is not of this format.
        """
        for line in text.split("\n"):
            if not line.startswith("#"):
                if line:
                    self._sample(member, line)
            elif found := _HELP.fullmatch(line):
                family = self._family(found[1])
                family.help = family.help or found[2]
            elif found := _TYPE.fullmatch(line):
                self._describe(found[1], found[2])

    def _family(self, sample: str) -> _Family:
        """That of a sample's name."""
        return self._families.setdefault(self._of.setdefault(sample, sample), _Family())

    def _describe(self, name: str, kind: str) -> None:
        family = self._family(name)
        # What was said first holds: members of different versions may not agree.
        if family.kind is None and self._of[name] == name:
            family.kind = kind
            for suffix in _SUFFIXES.get(kind, ()):
                self._of.setdefault(name + suffix, name)

    def _sample(self, member: str, line: str) -> None:
        found = _SAMPLE.fullmatch(line)
        if found is None:
            raise ValueError("no sample")
        name, labels, value = found.groups()
        family = self._family(name)
        if family.kind == "histogram" and self._of[name] == name:
            return  # another member says that it is one, and these have no such samples
        pairs = [pair.partition("=") for pair in _PARTS.findall(labels or "")]
        own = {label for label, _, _ in pairs}
        if len(own) < len(pairs):
            raise ValueError("a label that is there twice")
        exported = LABEL
        while exported in own:  # as Prometheus does it with a label that it sets itself
            exported = f"exported_{exported}"
        parts = [f'{LABEL}="{_escaped(member)}"']
        parts += [f"{exported if label == LABEL else label}={text}" for label, _, text in pairs]
        key = name, frozenset(parts)
        family.lines.setdefault(key, f"{name}{{{','.join(parts)}}} {value}")

    def lines(self) -> Iterator[str]:
        """All of it, in the order in which families came."""
        for name, family in self._families.items():
            if not family.lines:
                continue
            if family.help is not None:
                yield f"# HELP {name} {family.help}"
            if family.kind is not None:
                yield f"# TYPE {name} {family.kind}"
            yield from family.lines.values()


def merged(texts: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The lines of all members' figures as one; a pair has a member's name and its text."""
    every = Exposition()
    for member, text in texts:
        every.add(member, text)
    return every.lines()


def check(text: str) -> str:
    """The text, which is of this format.

    :raises ValueError: it is not.
    """
    Exposition().add("", text)
    return text


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

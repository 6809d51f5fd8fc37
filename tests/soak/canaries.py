"""What nobody but a destination may learn, and where it is looked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from attrs import field, frozen

from tests.daemon.relays import forms

_TARGETS = re.compile(rb'"target": ?"[^"]*"')
"""What operators are shown of streams: their destinations, which is documented."""


@frozen
class Canaries:
    """One word for each place in a request. No other text has them."""

    path: str
    query: str
    host: str
    """A name under :attr:`domain`, which nothing is configured with."""
    key: str
    token: str
    """What clients present."""
    wrong_token: str
    """What some present instead."""
    operator: list[str] = field(factory=list)
    """The operator token, once there is one."""

    domain = "soak.test.example"

    @classmethod
    def of(cls, seed: int) -> Canaries:
        """Those of a seed."""
        draw = Random(f"{seed} canaries")

        def word(kind: str) -> str:
            return f"canary-{kind}-{draw.getrandbits(64):016x}"

        return cls(
            path=word("path"),
            query=word("query"),
            host=f"{word('host')}.{cls.domain}",
            key=word("key"),
            token=word("token"),
            wrong_token=word("wrong"),
        )

    def _all(self) -> Iterator[str]:
        yield from (self.path, self.query, self.host.partition(".")[0], self.key)
        yield from (self.token, self.wrong_token, *self.operator)

    def among(self, data: bytes | bytearray, *, streams: bool = False) -> list[str]:
        """Those that are in these bytes, in whatever form.

        :param streams: whether these tell operators of streams, with their destinations.
        """
        if streams:
            data = _TARGETS.sub(b"", data)
        return [one for one in self._all() if any(form in data for form in forms(one.encode()))]

    def in_files(self, folder: Path, *, but: str = "") -> Iterator[str]:
        """A sentence for each file under a folder that holds one, or has one in its name.

        :param but: the name of the file that holds the operator token, and may.
        """
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            found = self.among(path.read_bytes() + str(path).encode())
            if path.name == but:
                found = [one for one in found if one not in self.operator]
            for one in found:
                yield f"{path.relative_to(folder)} holds {one}"

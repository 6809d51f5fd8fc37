"""Faults of ours that happen again and again, as each launch may: what the log says of them."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from tortxd.tor.repeats import Repeats

_MOST_KNOWN = 50


class Faults:
    """Says a fault with its traceback once; as often as it comes again, that it does.

    :param repeats: says how often.
    """

    def __init__(self, repeats: Repeats) -> None:
        self._repeats = repeats
        self._known: set[str] = set()

    def say(self, log: Logger, sentence: str, failure: Failure) -> None:
        """Log a fault.

        :param sentence: what was being done.
        """
        kind = f"{sentence} {failure.type} {failure.getErrorMessage()}"
        if kind not in self._known and len(self._known) < _MOST_KNOWN:
            self._known.add(kind)
            log.failure(sentence, failure)
            return
        name = getattr(failure.type, "__name__", "")
        self._repeats.say(
            lambda text: log.error("{text}", text=text), f"{sentence} {name}, as before.", like=name
        )

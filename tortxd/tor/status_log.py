"""What a terminal and a log file are told of Tor's status."""

from __future__ import annotations

from twisted.logger import Logger

from tortxd.tor.repeats import Repeats
from tortxd.tor.status import (
    BackingOff,
    Bootstrapping,
    Failed,
    Launching,
    Ready,
    Status,
    Stopped,
    sentence,
)

log = Logger(namespace="tortxd.tor")


def _log(text: str) -> None:
    log.info("{sentence}", sentence=text)


def _warn(text: str) -> None:
    log.warn("{sentence}", sentence=text)


class StatusLog:
    """Logs what Tor has become each time; how far it is, and why it is not reached, now and then.

    :param beginning: a sentence for when it is launched or connected to.
    :param ending: one for when it has ended, or None.
    """

    def __init__(self, repeats: Repeats, beginning: str, ending: str | None) -> None:
        self._repeats = repeats
        self._beginning = beginning
        self._ending = ending

    def become(self, status: Status, before: Status, *, is_failure_awaited: bool) -> None:
        """Tor is doing this now.

        :param is_failure_awaited: whether somebody else will say that it has failed.
        """
        match status:
            case Bootstrapping():
                self._repeats.say(_log, sentence(status))
            case Launching() if isinstance(before, BackingOff):
                pass  # that it would be was logged
            case Launching():
                _log(self._beginning)
            case BackingOff(_, reason):
                self._repeats.say(_warn, sentence(status), like=reason)
            case Stopped():
                pass  # logged when it has ended
            case Failed() if is_failure_awaited:
                pass
            case _:
                self._repeats.flush()
                (_log if isinstance(status, Ready) else _warn)(sentence(status))

    def ended(self, *, was_begun: bool) -> None:
        """It is stopped, and nothing of it runs.

        :param was_begun: whether anything ran since it ended last.
        """
        self._repeats.flush()
        if was_begun and self._ending is not None:
            _log(self._ending)

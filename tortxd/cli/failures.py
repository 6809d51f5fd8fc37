"""How a command fails: with a sentence, and the exit status that the contract names."""

from __future__ import annotations

FAILED = 1
USAGE = 2
NOT_REACHED = 3
NOT_READY = 4


class CommandFailed(Exception):
    """A command failed; the message is a sentence for users."""

    status = FAILED
    code = "failed"
    """For programs: the gateway's own code, where it has said one."""

    @property
    def sentences(self) -> list[str]:
        """What users are told, a line each."""
        return [str(self)]


class UsageFailed(CommandFailed):
    """It was not called as it should be."""

    status = USAGE


class NotReached(CommandFailed):
    """There is no daemon to be asked."""

    status = NOT_REACHED
    code = "not_reached"


class NotReady(CommandFailed):
    """The daemon has no Tor that serves now."""

    status = NOT_READY
    code = "tor_not_ready"


class ReaderGone(Exception):
    """Whoever reads the output, as head does, has had enough: that is no failure."""

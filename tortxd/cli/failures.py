"""How a command fails: with a sentence, and the exit status that the contract names."""

from __future__ import annotations

FAILED = 1
USAGE = 2
NOT_REACHED = 3
NOT_READY = 4


class CommandFailed(Exception):
    """A command failed; the message is a sentence for users."""

    status = FAILED


class UsageFailed(CommandFailed):
    """It was not called as it should be."""

    status = USAGE


class NotReached(CommandFailed):
    """There is no daemon to be asked."""

    status = NOT_REACHED


class NotReady(CommandFailed):
    """The daemon has no Tor that serves now."""

    status = NOT_READY


class ReaderGone(Exception):
    """Whoever reads the output, as head does, has had enough: that is no failure."""

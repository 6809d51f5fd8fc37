"""Environment variables that nobody has set for us: those of Kubernetes' and Docker's links.

A service ``tortxd`` makes ``TORTXD_PORT=tcp://10.0.0.1:3080``, ``TORTXD_SERVICE_HOST`` and more in
every pod of its namespace (Kubernetes, "Accessing the Service", environment variables; Docker,
"Legacy container links"). A service ``tortxd-socks`` makes ``TORTXD_SOCKS_PORT``, and so on.
"""

from __future__ import annotations

import re

_BY_NAME = re.compile(
    r"[A-Z0-9_]+_(?:"
    r"PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO|START|END|PORT_START|PORT_END))?"
    r"|SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|ENV_.+"
    r")"
)
"""No option is called anything like these."""

_BY_VALUE = (
    (re.compile(r"[A-Z0-9_]+_PORT"), re.compile(r"(?:tcp|udp|sctp)://\S+:[0-9]{1,5}")),
    (re.compile(r"[A-Z0-9_]+_NAME"), re.compile(r"/\S+/\S+")),
)
"""Names that somebody might write, with the values that only a link has."""


def is_link(name: str, value: str) -> bool:
    """Whether this variable describes a service or container, as orchestrators set it."""
    return _BY_NAME.fullmatch(name) is not None or any(
        names.fullmatch(name) and values.fullmatch(value) for names, values in _BY_VALUE
    )

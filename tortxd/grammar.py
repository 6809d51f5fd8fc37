"""What several rooms write or read alike."""

from __future__ import annotations

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
"""A name, in regular expressions (RFC 9110, section 5.6.2)."""


def bracketed(host: str) -> str:
    """A host as it stands before a port: IPv6 addresses have brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host

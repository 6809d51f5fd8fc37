"""What the demonstration's web server answers for the sites that the README uses.

Nothing leaves the machine: their names lead to that server, in the demonstration alone. Wherever
the form of the real answer has room for it, the answer says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tortxd.testing.origin_http import Reply
from tortxd.testing.origin_routes import (
    Asked,
    Routes,
    address_of,
    is_tor,
    json_reply,
    text_reply,
)

NOTE = "This is tortxd's demonstration, which stands in for {}. The real site was not asked."


def _site(request: Asked) -> str:
    return (request.request.header(b"host") or b"").decode("latin-1").partition(":")[0].lower()


def _note(request: Asked) -> str:
    return NOTE.format(_site(request))


def _page(request: Asked) -> Reply:
    body = (
        f"<!DOCTYPE html>\n<html lang=en><title>Not {_site(request)}</title>\n"
        f"<p>{_note(request)}\n<p>This page came through a private Tor network.\n"
    )
    return Reply(headers=(("Content-Type", "text/html; charset=utf-8"),), body=body.encode())


def _data(request: Asked) -> Reply:
    return json_reply({"hello": "Tor", "note": _note(request)})


def _post(request: Asked) -> Reply:
    """As httpbin.org/post has it."""
    data = request.body.start.decode("utf-8", "replace")
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    pairs = request.request.headers
    return json_reply(
        {
            "data": data,
            "headers": {name.decode("latin-1"): text.decode("latin-1") for name, text in pairs},
            "json": value,
            "origin": address_of(request),
            "note": _note(request),
        }
    )


def _address(request: Asked) -> Reply:
    """As api.ipify.org has it."""
    address = address_of(request)
    if request.first("format") == "json":
        return json_reply({"ip": address})
    return text_reply(address)


def _unknown(request: Asked) -> Reply:
    known = " and ".join(sorted(SITES[_site(request)].keys() - {"*"}))
    return text_reply(f"{_note(request)} It has {known}.\n", 404)


SITES: Mapping[str, Routes] = {
    "example.com": {"/": _page, "*": _unknown},
    "www.example.com": {"/": _page, "*": _unknown},
    "api.example.com": {"/": _page, "/data": _data, "*": _unknown},
    "httpbin.org": {"/": _page, "/post": _post, "*": _unknown},
    "api.ipify.org": {"/": _address, "*": _unknown},
    "check.torproject.org": {"/": _page, "/api/ip": is_tor, "*": _unknown},
}
"""Routes by the name of the site."""

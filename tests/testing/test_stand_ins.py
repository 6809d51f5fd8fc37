"""What the demonstration's web server answers for the sites that the README uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor as installed

from tests.web_client import Reply, ask
from tortxd.testing import Origin
from tortxd.testing.stand_ins import SITES

reactor: Any = installed


@pytest_twisted.async_yield_fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    server = Origin(reactor, tmp_path, sites=SITES)
    await server.start()
    yield server
    await server.stop()


async def get(origin: Origin, site: str, target: str, **further: Any) -> Reply:
    host = f"{site}:{origin.http_port}"
    return await ask(reactor, origin.http_port, target, host=host, **further)


@pytest.mark.parametrize("site", sorted(SITES))
@ensureDeferred
async def test_they_say_what_they_are(origin: Origin, site: str) -> None:
    unknown = await get(origin, site, "/nothing/there")
    assert unknown.status == 404
    assert f"stands in for {site}. The real site was not asked." in bytes(unknown.body).decode()
    page = await get(origin, site.upper(), "/")
    assert page.status == 200
    if site != "api.ipify.org":  # it says an address, and nothing else
        assert f"stands in for {site}." in bytes(page.body).decode()


@ensureDeferred
async def test_httpbin(origin: Origin) -> None:
    echo = await get(origin, "httpbin.org", "/post", method="POST", body=b'{"a": 1}')
    assert (echo.json["data"], echo.json["json"]) == ('{"a": 1}', {"a": 1})
    assert echo.json["origin"] == "127.0.0.1"
    text = await get(origin, "httpbin.org", "/post", method="POST", body=b"hello")
    assert (text.json["data"], text.json["json"]) == ("hello", None)


@ensureDeferred
async def test_addresses(origin: Origin) -> None:
    assert (await get(origin, "api.ipify.org", "/")).body == b"127.0.0.1"
    asked = await get(origin, "api.ipify.org", "/?format=json")
    assert asked.json == {"ip": "127.0.0.1"}
    checked = await get(origin, "check.torproject.org", "/api/ip")
    assert checked.json == {"IsTor": False, "IP": "127.0.0.1"}


@ensureDeferred
async def test_data(origin: Origin) -> None:
    assert (await get(origin, "api.example.com", "/data")).json["hello"] == "Tor"


@ensureDeferred
async def test_other_names_have_the_origins_own_routes(origin: Origin) -> None:
    assert (await get(origin, "origin.test.example", "/echo")).json["method"] == "GET"
    assert (await get(origin, "origin.test.example", "/post")).status == 404

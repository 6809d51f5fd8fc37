"""The same as short as aiohttp and aiohttp-socks let one write it.

usage: ``over_aiohttp.py PORT SOCKS_URL``, with a Python that has both
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from aiohttp import ClientSession, ClientTimeout, web
from aiohttp_socks import ProxyConnector

_DROPPED = frozenset(("host", "connection", "content-length", "transfer-encoding"))
_PIECE = 65536


def _kept(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _DROPPED]


def application(socks: str) -> web.Application:
    """``/proxy?url=`` through the SOCKS server at this URL."""
    sessions: list[ClientSession] = []

    async def start(_: web.Application) -> None:
        connector = ProxyConnector.from_url(socks, rdns=True, limit=0)
        timeout = ClientTimeout(total=None)
        sessions.append(ClientSession(connector=connector, timeout=timeout, auto_decompress=False))

    async def stop(_: web.Application) -> None:
        await sessions[0].close()

    async def proxy(request: web.Request) -> web.StreamResponse:
        async with sessions[0].request(
            request.method,
            request.query["url"],
            headers=_kept(request.headers.items()),
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(
                status=answer.status, headers=dict(_kept(answer.headers.items()))
            )
            response.content_length = answer.content_length
            await response.prepare(request)
            async for piece in answer.content.iter_chunked(_PIECE):
                await response.write(piece)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=0)
    app.on_startup.append(start)
    app.on_cleanup.append(stop)
    app.router.add_route("*", "/proxy", proxy)
    return app


if __name__ == "__main__":
    web.run_app(application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None)

"""Fetch pages through Tor from asyncio, several at once.

python asyncio_client.py https://example.com/ https://example.org/

SOCKS_ADDR says where Tor's SOCKS port is, when that is not 127.0.0.1:9050.
"""

import asyncio
import os
import sys

from twisted.internet import asyncioreactor, task
from twisted.internet.defer import Deferred

from tortxd import tor_client


async def fetch(client, url):
    # A Deferred becomes an asyncio future with asFuture.
    loop = asyncio.get_running_loop()
    response = await client.get(url).asFuture(loop)
    body = await response.content().asFuture(loop)
    return f"{response.code} {len(body)} bytes from {url}"


async def main(urls):
    client = tor_client(os.environ.get("SOCKS_ADDR", "127.0.0.1:9050"))
    for line in await asyncio.gather(*(fetch(client, url) for url in urls)):
        print(line)


if __name__ == "__main__":
    # Twisted's reactor runs on the asyncio loop. Install it before anything else installs another.
    loop = asyncio.new_event_loop()
    asyncioreactor.install(loop)
    task.react(lambda _: Deferred.fromFuture(loop.create_task(main(sys.argv[1:]))))

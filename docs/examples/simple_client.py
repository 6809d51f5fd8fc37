"""Fetch a page through Tor with plain Twisted.

python simple_client.py https://example.com/

SOCKS_ADDR says where Tor's SOCKS port is, when that is not 127.0.0.1:9050.
"""

import os
import sys

from twisted.internet import task

from tortxd import Config, TorHttpClient, TortxdError


async def main(reactor, url):
    config = Config(socks_addr=os.environ.get("SOCKS_ADDR", "127.0.0.1:9050"))
    client = TorHttpClient(config, reactor)
    try:
        response = await client.get(url)
        text = await response.text()
    except TortxdError as error:
        raise SystemExit(f"{error.code}: {error}") from error
    print(f"{response.code}, {len(text)} characters")
    print(text)

    # Requests with an isolation key never share a circuit with anyone else's.
    alice = client.isolated("alice")
    response = await alice.post(url, {"hello": "Tor"})  # a dict is sent as JSON
    print(f"POST: {response.code}")


if __name__ == "__main__":
    task.react(main, sys.argv[1:])

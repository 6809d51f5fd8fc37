"""Say where requests leave Tor, and see which way they went.

python steered_client.py https://example.com/ de fr

This takes a running tortxd: GATEWAY_ADDR says where its gateway is, when that is not
127.0.0.1:3080, and GATEWAY_TOKEN is its token, where it wants one.
"""

import os
import sys

from twisted.internet import task

from tortxd import Config, ExitUnavailable, TorHttpClient, TortxdError


async def main(reactor, url, *countries):
    config = Config(
        http_gateway_addr=os.environ.get("GATEWAY_ADDR", "127.0.0.1:3080"),
        token=os.environ.get("GATEWAY_TOKEN"),
    )
    client = TorHttpClient(config, reactor)
    for country in countries:
        # The key "alice" keeps its exit in that country for ten minutes from each request on.
        alice = client.isolated("alice", exit_country=country, sticky=600, retry=2)
        try:
            response = await alice.get(url)
            body = await response.content()
        except ExitUnavailable as error:
            print(f"{country}: {error}")
            continue
        except TortxdError as error:
            raise SystemExit(f"{error.code}: {error}") from error
        way = response.tor
        print(f"{country}: {response.code}, {len(body)} bytes")
        print(f"  by {way.exit.fingerprint} in {way.exit.country}, at try {way.attempts}")


if __name__ == "__main__":
    task.react(main, sys.argv[1:])

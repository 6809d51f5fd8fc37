"""The library's clients: HTTP and plain streams through a Tor that runs already.

>>> client = TorHttpClient(Config(socks_addr="127.0.0.1:9050"))
>>> response = await client.get("https://example.com/")

Everything that takes time returns a Deferred, which starts at once and can be awaited.
"""

from tortxd.client.http import TorHttpClient, tor_client
from tortxd.client.socks import SocksClient

__all__ = ["SocksClient", "TorHttpClient", "tor_client"]

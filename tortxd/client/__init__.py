"""The library's clients: HTTP and plain streams through a Tor that runs already.

>>> client = TorHttpClient(Config(socks_addr="127.0.0.1:9050"))
>>> response = await client.get("https://example.com/")

Everything that takes time returns a Deferred, which starts at once and can be awaited.
"""

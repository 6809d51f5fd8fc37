"""Speak a protocol of your own over a stream through Tor: here HTTP/1.0, by hand.

python socks_client.py example.com 80

SOCKS_ADDR says where Tor's SOCKS port is, when that is not 127.0.0.1:9050.
"""

import os
import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

from tortxd import Config, SocksClient


class StatusLine(LineReceiver):
    """Asks for a page and keeps the first line of the answer."""

    def __init__(self):
        self.line = Deferred()

    def connectionMade(self):
        self.sendLine(b"HEAD / HTTP/1.0")
        self.sendLine(b"")

    def lineReceived(self, line):
        if not self.line.called:
            self.line.callback(line.decode())
            self.transport.loseConnection()


async def main(reactor, host, port):
    config = Config(socks_addr=os.environ.get("SOCKS_ADDR", "127.0.0.1:9050"))
    socks = SocksClient(config, reactor)
    print("SOCKS port answers:", await socks.check_connection())

    # For one question and one answer:
    reply = await socks.send_receive(host, int(port), b"GET / HTTP/1.0\r\n\r\n")
    print(len(reply), "bytes in reply")

    # For everything else, a protocol:
    protocol = await socks.connect(host, int(port), Factory.forProtocol(StatusLine))
    print(await protocol.line)


if __name__ == "__main__":
    task.react(main, sys.argv[1:])

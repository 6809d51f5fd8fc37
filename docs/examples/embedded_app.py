"""A web application with a Tor of its own inside.

PAGE=https://example.com/ twistd -ny embedded_app.py

/page           the page that PAGE names, fetched through Tor
/paths          the circuits that Tor has built, relay by relay
/tor/health     and all the gateway's other routes, under /tor

LISTEN is the Twisted endpoint of the application, DATA_DIR is where Tor keeps its state, and TORRC
names a file with further lines for its configuration.
"""

import os

from klein import Klein
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.web.resource import Resource
from twisted.web.server import Site

from tortxd import DaemonConfig, TorService, TortxdError


class Pages:
    """The application's own pages."""

    routes = Klein()

    def __init__(self, tor, url):
        self.tor = tor
        self.url = url

    @routes.route("/page")
    async def page(self, request):
        request.setHeader("Content-Type", "text/plain; charset=utf-8")
        try:
            response = await self.tor.http.get(self.url)
            return await response.content()
        except TortxdError as error:
            request.setResponseCode(error.status)
            return f"{error}\n"

    @routes.route("/paths")
    def paths(self, request):
        request.setHeader("Content-Type", "text/plain; charset=utf-8")
        built = [circuit for circuit in self.tor.circuits() if circuit.state == "BUILT"]
        lines = (" > ".join(relay.nickname or "?" for relay in one.path) for one in built)
        return "\n".join((*lines, ""))


class Root(Resource):
    """The application's pages, with the gateway beside them."""

    def __init__(self, pages, gateway):
        super().__init__()
        self.pages = pages.routes.resource()
        self.putChild(b"tor", gateway)

    def getChild(self, path, request):
        request.postpath.insert(0, request.prepath.pop())
        return self.pages


class QuietSite(Site):
    """A site without an access log, which would hold the URLs that are fetched through Tor."""

    def log(self, request):
        pass


config = DaemonConfig(
    data_dir=os.environ.get("DATA_DIR", "tor-state"),
    torrc=os.environ.get("TORRC"),
    http=(),  # the gateway has no port of its own here
)
tor = TorService(config, reactor)
pages = Pages(tor, os.environ.get("PAGE", "https://example.com/"))
site = QuietSite(Root(pages, tor.gateway()))
endpoint = serverFromString(reactor, os.environ.get("LISTEN", "tcp:8080:interface=127.0.0.1"))

application = Application("a web application with Tor inside")
tor.setServiceParent(application)
StreamServerEndpointService(endpoint, site).setServiceParent(application)

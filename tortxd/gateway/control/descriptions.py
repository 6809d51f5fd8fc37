"""What the routes do, where a line does not say it: for the description of the API."""

from __future__ import annotations

from tortxd.policy.request import OPERATOR_COOKIE

API = """\
The gateway of tortxd, a daemon that owns a Tor: what the Tor network gives to programs and pages on
this machine, and what operators see of it.

Every body that the gateway itself writes is JSON, but for a page at `/`, events and metrics. `HEAD`
is served wherever `GET` is, and `OPTIONS` says with `Allow` which methods there are. A header that
begins with `Tortxd` and that the gateway does not know is 400 `bad_request`.

The same port is an ordinary HTTP proxy, which this document cannot describe: `CONNECT host:port`
opens a tunnel through Tor, and a request with a whole URL (`GET http://host/path`) is relayed.
"""

PROXY = """\
Relays the request through Tor to the target that `url` names, and the response back, both streamed:
any method (whatever is a token, not only those that are described here), any body. Status, headers
and body are the destination's, but for headers that identify the caller or that a browser would act
upon, which are dropped. A response with `Tortxd-Error` is the gateway's own.

Redirects are handed to the client, with `Location` rewritten to this route. A handshake with
`Upgrade: websocket` becomes a WebSocket. Cookies are not passed on, either way. `Authorization`
belongs to the destination: the gateway's token goes into `Tortxd-Token`.

What steers the request can stand in a header or in the query. Said in both, it must be the same.
"""

PAGE = """\
For programs, the routes that there are. A browser, which asks for `text/html`, gets a page, on
which operators see more than others.
"""

NEW_IDENTITY = """\
With an isolation key, the caller's own requests with that key get new circuits and connections from
now on; what is under way goes on. A user of the HTTP proxy, with its password, stands for the key
that requests by that user have. Operators can name a circuit: the key for which that is gets new
ones, whoever's it is. Without a body, operators renew everything for all callers, and have Tor do
the same (NEWNYM).
"""

EVENTS = """\
Server-Sent Events, which do not end by themselves. First comes a `snapshot`, and again whenever
what was told before does not count any more, as with another Tor; then `status`, `circuit`,
`stream` and `bandwidth` as they change. Each event has an `id`, and in `data` one line of JSON, by
`x-events`. A comment comes after 15 seconds of silence. There may be 32 readers.
"""

METRICS = """\
The text format of Prometheus. The documentation's page on metrics explains each of them. None has a
host, a key or a client in a label, and what Tor does not say is left out.
"""

NOT_FOUND = "There is none with this id, or none any more."
"""Of a route that has an id: there, the error of its name is about that."""

TAGS = {
    "clients": "Whoever may call: where a client token is set, with that.",
    "operators": "With the operator token, which lies in `operator-token` in the data directory, "
    "or in the file that `operator_token_file` names.",
}
_BEARER = {"type": "http", "scheme": "bearer"}
_TOKEN_HEADER = {"type": "apiKey", "in": "header", "name": "Tortxd-Token"}
SECURITY_SCHEMES = {
    "clientBearer": {**_BEARER, "description": "The client token, where one is set."},
    "clientToken": {**_TOKEN_HEADER, "description": "The client token, where one is set."},
    "operatorBearer": {**_BEARER, "description": "The operator token."},
    "operatorToken": {**_TOKEN_HEADER, "description": "The operator token."},
    "operatorCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": OPERATOR_COOKIE.decode(),
        "description": "What `/?token=TOKEN` gives a browser for the operator token.",
    },
}
HEADERS = {
    "Tortxd-Error": "The error's code: the response is the gateway's own, not a destination's.",
    "Proxy-Status": "What happened, by RFC 9209.",
    "Retry-After": "Seconds after which trying again makes sense.",
    "WWW-Authenticate": "How to present a token (RFC 9110, section 11.6.1).",
    "Location": "Where to go on.",
    "Set-Cookie": "The operators' cookie.",
    "Tortxd-Circuit": "The id of the circuit that carried the request, as in `/circuits`.",
    "Tortxd-Exit": "The exit relay's fingerprint.",
    "Tortxd-Exit-Address": "The exit relay's address.",
    "Tortxd-Exit-Country": "The exit relay's country: ISO 3166-1 alpha-2, in lower case.",
    "Tortxd-Attempts": "How many tries it took: streams that Tor was asked for, and uses of a "
    "connection that was there.",
    "Tortxd-Exit-Changed": "`1` where the key was to keep its exit and has another one now.",
    "Tortxd-Location": "The destination's own Location, where that was rewritten.",
}

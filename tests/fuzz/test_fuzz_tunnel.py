"""Tunnels and WebSockets: bytes go both ways as they are, whatever they are and however it ends."""

from __future__ import annotations

from hypothesis import event
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from tests.fuzz.cutting import CUTS, Cuts, cut
from tests.fuzz.profile import fuzzed
from tests.fuzz.world import client_of, example, send_pieces, turns, until
from tests.gateway.conftest import Gateway

_UPGRADE = (
    b" HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
)
_HEADS = {
    "connect": b"CONNECT a.example:7000 HTTP/1.1\r\nHost: a.example:7000\r\n\r\n",
    "websocket": b"GET /proxy?url=ws%3A%2F%2Fa.example%2F" + _UPGRADE,
    "websocket by proxy": b"GET http://a.example/" + _UPGRADE,
}
_SWITCH = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

_SAID = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from(
        (
            b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"0\r\n\r\n",
            b"GET /proxy HTTP/1.1\r\n\r\n",
            b"MUCH",
        )
    ),
)
TURNS = st.lists(st.tuples(st.sampled_from(("client", "far end")), _SAID), max_size=6)
ENDINGS = st.sampled_from(
    ("client aborts", "client ends", "far end closes", "far end breaks off", "circuit dies")
)


@fuzzed(
    50,
    kind=st.sampled_from(list(_HEADS)),
    ahead=st.just(b"") | _SAID,
    behind=st.just(b"") | _SAID,
    said=TURNS,
    cuts=CUTS,
    ending=ENDINGS,
    settled=st.booleans(),
    slow=st.booleans(),
    goes_on=st.booleans(),
)
@ensureDeferred
async def test_rule_18_bytes_pass_both_ways_as_they_are(
    gateway: Gateway,
    kind: str,
    ahead: bytes,
    behind: bytes,
    said: list[tuple[str, bytes]],
    cuts: Cuts,
    ending: str,
    settled: bool,
    slow: bool,
    goes_on: bool,
) -> None:
    """Also what comes ahead of the answer, or in one piece with it; and after a client's FIN. And
    the end arrives at clients that read slowly, and go on sending."""
    event(f"{kind}: {ending}")
    gateway.socks.origin = None
    is_tunnel = kind == "connect"
    gateway.socks.behind = behind if is_tunnel else b""
    reasons = {"far end breaks off": "CONNRESET", "circuit dies": "DESTROY"}
    gateway.link.reason = reasons.get(ending, "DONE")
    async with example(gateway):
        client = await client_of(gateway, slow=slow)
        await send_pieces(gateway, client.transport, cut(_HEADS[kind] + ahead, cuts))
        await until(gateway, lambda: bool(gateway.socks.served), "nobody was asked")
        served = gateway.socks.served[0]
        if not is_tunnel:
            served.transport.write(_SWITCH + behind)
        sent, told = ahead, behind
        for who, word in said:
            data = word * 20_000 if word == b"MUCH" else word
            if who == "client":
                sent += data
                client.transport.write(data)
            else:
                told += data
                served.transport.write(data)
            await turns(gateway)

        def far_end_got() -> bytes:
            got = served.received
            return got if is_tunnel else got.partition(b"\r\n\r\n")[2]

        def client_got() -> bytes:
            return client.raw.partition(b"\r\n\r\n")[2]

        def failed() -> bool:
            # The far end broke off before the client had been told that it is there.
            return ending in reasons and b"Tortxd-Error" in client.raw

        if settled:
            await until(gateway, lambda: far_end_got() == sent, "bytes were lost or added")
            await until(gateway, lambda: client_got() == told, "bytes were lost or added")
        if ending == "client aborts":
            client.transport.abortConnection()
        elif ending == "client ends":
            client.transport.loseWriteConnection()
            if is_tunnel:
                await turns(gateway)
                told += b"late"
                served.transport.write(b"late")
                await until(gateway, lambda: client_got() == told, "the last bytes were lost")
                served.transport.loseConnection()
        elif ending in ("far end closes", "circuit dies"):
            served.transport.loseConnection()

            def is_over() -> bool:
                if goes_on and not client.closed:
                    client.transport.write(b"." * 100)
                return client.closed

            await until(gateway, is_over, "the end was not passed on")
            assert client_got() == told or failed()
            assert client.reset is (ending == "circuit dies") or failed()
            sent = far_end_got()
        else:
            served.transport.abortConnection()

        await until(gateway, lambda: client.closed or failed(), "the client is not told")
        assert sent.startswith(far_end_got())
        assert failed() or told.startswith(client_got())
        client.transport.abortConnection()
        await until(gateway, lambda: client.closed and served.lost.called, "it goes on")

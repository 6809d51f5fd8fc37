"""What gateways are asked, as bytes."""

from __future__ import annotations

from bench.ways import Asked, Way, conversation, message

URL = "http://origin.test.example:8080/1024"


def steps(way: Way, asked: Asked) -> list[tuple[bytes, str]]:
    parted = [line.partition(" ") for line in conversation(way, asked)]
    return [(bytes.fromhex(sent), awaited) for sent, _, awaited in parted]


def test_the_url_is_a_parameter() -> None:
    ((sent, awaited),) = steps(Way.URL, Asked(URL))
    target = b"/proxy?url=http%3A%2F%2Forigin.test.example%3A8080%2F1024"
    assert sent.startswith(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n")
    assert sent.endswith(b"\r\n\r\n")
    assert awaited == "again"


def test_a_proxy_is_asked_for_the_whole_url() -> None:
    ((sent, _),) = steps(Way.PROXY, Asked(URL))
    assert sent.startswith(f"GET {URL} HTTP/1.1\r\nHost: origin.test.example:8080\r\n".encode())
    assert message(Way.PROXY, Asked(URL)) == sent


def test_a_tunnel_comes_before_the_request() -> None:
    (tunnel, head), (sent, again) = steps(Way.CONNECT, Asked(URL))
    assert tunnel.startswith(b"CONNECT origin.test.example:8080 HTTP/1.1\r\n")
    assert sent.startswith(b"GET /1024 HTTP/1.1\r\nHost: origin.test.example:8080\r\n")
    assert (head, again) == ("head", "again")


def test_socks_is_asked_for_the_name() -> None:
    *handshake, (sent, _) = steps(Way.SOCKS, Asked(URL))
    assert [awaited for _, awaited in handshake] == ["2", "2", "10"]
    assert handshake[-1][0] == b"\x05\x01\x00\x03\x13origin.test.example\x1f\x90"
    assert sent.startswith(b"GET /1024 HTTP/1.1\r\n")


def test_an_upload_says_how_long_it_is() -> None:
    ((sent, awaited),) = steps(Way.PROXY, Asked(URL, upload=5000))
    assert sent.startswith(b"POST ") and b"\r\nContent-Length: 5000\r\n" in sent
    assert awaited == "5000 again"


def test_a_key_is_the_load_clients_to_number() -> None:
    ((sent, _),) = steps(Way.PROXY, Asked(URL, keys=5000))
    assert sent.count(b"########") == 1
    assert b"\r\nTor-Stream-Isolation: ########\r\n" in sent
    assert b"Isolation" not in message(Way.PROXY, Asked(URL))


def test_what_is_behind_the_path_is_asked_for_in_tunnels_too() -> None:
    *_, (sent, _) = steps(Way.CONNECT, Asked(URL + "?last"))
    assert sent.startswith(b"GET /1024?last HTTP/1.1\r\n")


def test_who_closes_says_so_with_each_request() -> None:
    ((sent, awaited),) = steps(Way.PROXY, Asked(URL, closes=True))
    assert b"\r\nConnection: close\r\n" in sent and awaited == "again"
    assert b"Connection" not in message(Way.PROXY, Asked(URL))

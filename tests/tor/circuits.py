"""Circuits and streams, as lines that Tor writes of them."""

from __future__ import annotations

from tortxd.tor.table import Table

A, B, C = "A" * 40, "B" * 40, "C" * 40
PATH = f"${A}~guard,${B}~middle,${C}~exit"
FLAGS = "BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL TIME_CREATED=2026-11-22T15:51:09.938000"


def built(table: Table, id: str = "7", more: str = "", now: float = 1.0) -> None:
    table.feed("CIRC", f"{id} LAUNCHED {FLAGS}", now)
    table.feed("CIRC", f"{id} EXTENDED ${A}~guard {FLAGS}", now)
    table.feed("CIRC", f"{id} BUILT {PATH} {FLAGS}{more}", now)


def opened(table: Table, circuit: str = "7", id: str = "20", port: int = 43210) -> None:
    rest = 'PURPOSE=USER SOCKS_USERNAME="u" CLIENT_PROTOCOL=SOCKS5'
    table.feed("STREAM", f"{id} NEW 0 a.example:443 SOURCE_ADDR=127.0.0.1:{port} {rest}", 2.0)
    table.feed("STREAM", f"{id} SENTCONNECT {circuit} a.example:443 {rest}", 2.1)
    table.feed("STREAM", f"{id} SUCCEEDED {circuit} a.example:443 {rest}", 2.2)

"""Protocols as bytes: SOCKS5 and HTTP/1.1 without input or output of their own."""

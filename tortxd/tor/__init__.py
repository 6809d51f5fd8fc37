"""Everything that knows Tor: its process, control connection, circuits and SOCKS port."""

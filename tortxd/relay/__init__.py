"""One request on its way through Tor and back: exchanges, tunnels, and pools of connections."""

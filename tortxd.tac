"""``twistd -ny tortxd.tac``: the daemon, configured by a TOML file and the environment alone."""

from tortxd.tap import make_application

application = make_application()

"""``twistd -ny tortxd.tac``: the daemon, configured by a TOML file and the environment alone."""

from twisted.application.service import Application

from tortxd.tap import load_config, make_daemon

application = Application("tortxd")
make_daemon(load_config({})).setServiceParent(application)

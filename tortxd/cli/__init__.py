"""The command ``tortxd``: what operators do in a terminal. Nothing here imports Twisted, apart from
``serve`` and ``demo``, and modules are imported when they are needed: a command is to start at
once."""

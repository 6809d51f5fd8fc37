"""``python -m bench.fleet``: what a fleet costs: HAProxy, with the configuration that the project
gives, in front of one member, two and three.

``world`` runs them, ``cases`` asks them by turns, ``paper`` computes from that what larger fleets
could do, and ``page`` writes all of it into docs/fleet.md.
"""

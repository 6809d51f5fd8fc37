"""Programs that are measured, each a process of its own: ``python -m bench.gateways.NAME``."""

"""What programs of the documentation run in."""

from __future__ import annotations

import os

from tests.docs.documents import ROOT
from tortxd.testing import Origin


def environment(origin: Origin, **further: str) -> dict[str, str]:
    """This process's own, with tortxd importable and the origin's certificate trusted."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TORTXD_")}
    return {**kept, "PYTHONPATH": str(ROOT), "SSL_CERT_FILE": str(origin.ca_file), **further}

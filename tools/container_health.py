#!/usr/bin/env python3
"""Ends with 0 when the daemon in this container serves requests, as Docker's HEALTHCHECK asks.

It knows the daemon's port and token where environment or TOML name them, not what ``docker run``
adds as options.
"""

import os
import sys
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from tortxd.config import DaemonConfig
from tortxd.errors import SetupError


def main() -> int:
    """Ask the gateway; print what it answers, for ``docker inspect``."""
    opener = build_opener(ProxyHandler({}))
    try:
        config = DaemonConfig.load({}, os.environ)
        url = f"http://127.0.0.1:{min(config.http_ports, default=3080)}/health"
        token = {} if config.token is None else {"Tortxd-Token": config.token.decode()}
        with opener.open(Request(url, headers=token), timeout=8) as response:
            print(response.read().decode())
            return 0
    except HTTPError as error:
        print(error.read().decode())
    except (URLError, OSError, SetupError) as error:
        print(error)
    return 1


if __name__ == "__main__":
    sys.exit(main())

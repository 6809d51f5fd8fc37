"""Real clients as processes, while the tests' reactor serves what they ask for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen
from twisted.internet.utils import getProcessOutputAndValue

from tests.daemon.process import installed

CURL_TIME = 60
"""Seconds after which curl gives up by itself."""


@frozen
class Ran:
    """A program that has ended."""

    status: int
    out: bytes
    err: bytes


async def run_program(
    program: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> Ran:
    """Run a program to its end. It must know by itself when to give up."""
    # A proxy of the developer's own is not the one to test.
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("proxy")}
    out, err, status = await getProcessOutputAndValue(
        program, arguments, env={**kept, **(environ or {})}, reactor=installed()
    )
    return Ran(status, out, err)


async def curl(port: int, *arguments: str, trust: Path | None = None) -> Ran:
    """curl with this gateway as its proxy. The shell and the user have no say in it."""
    own = ["-q", "-sS", "--max-time", str(CURL_TIME), "-x", f"http://127.0.0.1:{port}"]
    if trust is not None:
        own += ["--cacert", str(trust)]
    return await run_program("curl", *own, *arguments)


async def run_python(code: str, *arguments: str, environ: Mapping[str, str] | None = None) -> Ran:
    """Run Python code in a process of its own; ``arguments`` are its ``sys.argv[1:]``."""
    return await run_program(sys.executable, "-c", code, *arguments, environ=environ)


def proxied(port: int, trust: Path) -> dict[str, str]:
    """The environment that makes programs take this gateway for their proxy."""
    proxy = f"http://127.0.0.1:{port}"
    return {
        "HTTP_PROXY": proxy,
        "HTTPS_PROXY": proxy,
        "http_proxy": proxy,
        "https_proxy": proxy,
        "REQUESTS_CA_BUNDLE": str(trust),
        "PIP_CERT": str(trust),
    }

"""A second opinion on URLs: Node.js's, whose parser (Ada) is made for the URL standard."""

from __future__ import annotations

import json
import subprocess
from typing import Any

_PROGRAM = """
require("readline").createInterface({input: process.stdin}).on("line", line => {
  let read = null;
  try {
    const {href, hostname} = new URL(JSON.parse(line));
    read = {href, hostname};
  } catch {}
  console.log(JSON.stringify(read));
});
"""


class Whatwg:
    """A Node.js that reads one URL after the other."""

    def __init__(self) -> None:
        self._node = subprocess.Popen(
            ("node", "-e", _PROGRAM), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def _read(self, url: str) -> Any:
        assert self._node.stdin is not None and self._node.stdout is not None
        self._node.stdin.write(json.dumps(url).encode() + b"\n")
        self._node.stdin.flush()
        return json.loads(self._node.stdout.readline())

    def url(self, url: str) -> str | None:
        """The URL in its one form; None where it is none."""
        read = self._read(url)
        return None if read is None else str(read["href"])

    def host(self, host: str) -> str | None:
        """The host of ``http://HOST/`` in its one form; None where it is none."""
        read = self._read(f"http://{host}/")
        return None if read is None else str(read["hostname"])

    def stop(self) -> None:
        """End it."""
        self._node.communicate()

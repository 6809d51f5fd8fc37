"""``python -m tests.soak``: load and faults on a daemon, for some minutes, from a seed."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.soak.soak import Soak
from tests.soak.summary import lines


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what all follows from (default: 1)")
    parser.add_argument("--seconds", type=float, default=600.0, help="of load (default: 600)")
    parser.add_argument("--no-faults", action="store_true", help="load alone")
    parser.add_argument("--keep", type=Path, help="a new folder for plan, logs and files, to stay")
    return parser.parse_args()


def main() -> None:
    """Run, and say what came of it; exit status 1 for anything that must not be."""
    options = _arguments()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="tortxd-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(
        options.seed,
        options.seconds,
        folder.resolve(),
        tell=lambda line: print(line, flush=True),
        faults=not options.no_faults,
    )

    async def run() -> None:
        try:
            await soak.run()
        finally:
            print("", *lines(soak), *soak.ledger.violations, sep="\n", flush=True)
        if soak.ledger.violations:
            words = " ".join(sys.argv[1:])
            print(f'Plan and logs: {folder}. Once more: make soak ARGS="{words}"')
            print(f"The seed was {options.seed}.")
            raise SystemExit(1)
        if options.keep is None:
            shutil.rmtree(folder)

    react(lambda _: Deferred.fromCoroutine(run()))


if __name__ == "__main__":
    main()

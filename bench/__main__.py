"""``python -m bench``: measure, and say what came of it."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from bench import document
from bench.build import BuildError
from bench.options import Options
from bench.processes import ProcessError
from bench.results import Report
from bench.run import run


def main(options: Options) -> None:
    """Do what the command line says."""
    if options.report is not None:
        document.write(Report.from_json(options.report.read_text()))
        return
    report = run(options)
    options.json.write_text(report.to_json())
    print(f"\nAll figures: {options.json}")
    if options.is_whole:
        document.write(report)
        print(f"Tables and pictures: {document.PAGE}")


def _end(number: int, _: FrameType | None) -> None:
    # As an exception, so that all that was started is ended.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, _end)
    try:
        main(Options.parse(sys.argv[1:]))
    except (BuildError, ProcessError) as problem:
        raise SystemExit(f"bench: {problem}") from None

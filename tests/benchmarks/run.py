"""Measure the runtime beside its reference lines: ``make bench``, or ``python tests/benchmarks/run.py --help``.

Each measurement is a process of its own, in a folder of its own. A round measures each workload right after its line,
so that both see the same machine; ratios are taken within a round, and what is shown is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import table
from budget import verdicts
from plan import FULL, QUICK, Measurement, Row, rows_of
from series import Series
from stopwatch import Sample

MEASURE = Path(__file__).with_name("measure.py")
TIMEOUT_S = 600


class Bench:
    """Runs measurements below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prepared: dict[tuple[str, str], Path] = {}

    def measure(self, measurement: Measurement) -> Sample:
        """One sample, from a new process in a new folder (a copy of what the measurement needs to be there)."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            if measurement.prepared_by is not None:
                ready = self._prepare(measurement.prepared_by, measurement.prepared)
                shutil.copytree(ready, folder, dirs_exist_ok=True)
            return Sample(**json.loads(self._call(measurement.call, folder, measurement.arguments, measurement.timed)))

    def _prepare(self, call: str, arguments: dict[str, int]) -> Path:
        key = (call, json.dumps(arguments))
        if key not in self._prepared:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            self._call(call, folder, arguments, timed=False)
            self._prepared[key] = folder
        return self._prepared[key]

    def _call(self, call: str, folder: Path, arguments: object, timed: bool) -> str:
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        command = [sys.executable, str(MEASURE), call, str(folder), text]
        if timed:
            command.append(str(time.monotonic()))
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if ended.returncode:
            sys.exit(f"{call} {text} failed:\n{ended.stderr}")
        return ended.stdout


def measure_all(rows: Sequence[Row], rounds: int, folder: Path) -> dict[str, Series]:
    """The samples of each row, and those of its line from the same rounds."""
    bench = Bench(folder)
    measured = {row.key: Series(row) for row in rows}
    for number in range(rounds):
        for place, row in enumerate(rows, start=1):
            say(f"round {number + 1} of {rounds}, {place} of {len(rows)}: {row.title}")
            series = measured[row.key]
            if row.line is not None:
                series.lines.append(bench.measure(row.line))
            series.samples.append(bench.measure(row.workload))
    say("")
    return measured


def say(text: str) -> None:
    """Progress: on one line of a terminal, on lines of its own elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Measure the runtime beside the reference lines of this machine, and print one table.",
        epilog="By make: make bench ARGS='--quick --only sqlite'",
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller sizes and 2 rounds: a quarter of a minute instead of some"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds instead of 5")
    parser.add_argument("--only", action="append", metavar="TEXT", help="only rows with this in their title")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples and the verdicts there too")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="measure files there, to choose the disk")
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds is 1 or more")
    return options


def main() -> None:
    """Measure and print."""
    options = arguments()
    scale = QUICK if options.quick else FULL
    rounds = options.rounds or scale.rounds
    wanted = [text.lower() for text in options.only or [""]]
    rows = [row for row in rows_of(scale) if any(text in row.title.lower() for text in wanted)]
    if not rows:
        known = "\n".join(f"  {row.title}" for row in rows_of(scale))
        sys.exit(f"no row has that in its title; there are:\n{known}")
    about = table.machine(datetime.now(UTC), rounds)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        measured = measure_all(rows, rounds, Path(folder))
    judged = verdicts(measured)
    print(table.text(about, measured, judged))
    if options.json is not None:
        options.json.write_text(json.dumps(table.as_json(about, measured, judged), indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The budget: which rows answer which line of it, and whether they meet it.

Bounds in µs and ms hold on the machine that they were set for; they scale with what the line takes here and took there.
Lines that nothing can answer yet (the file log, S3, turns of 32 runs, a settings source) are not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from series import Measured, Series, Verdict

BARE_LOOP_US = 0.43
RAW_PROCESS_MS = 60
"""What the lines took there: the bare loop per step, and from process start to the first resumed step."""


def verdicts(measured: Measured) -> list[Verdict]:
    """What can be said from the rows at hand."""
    return [verdict for judge in _JUDGES for verdict in judge(measured)]


def _memory_step(measured: Measured) -> Iterator[Verdict]:
    if series := measured.get("chain-memory-1000"):
        bound_us = 12 * series.line_us() / BARE_LOOP_US
        yield Verdict(
            asks=f"a step in memory: ≤ 12 µs, here {bound_us:.1f}",
            measured=f"{series.wall_us():.1f} µs",
            met=series.wall_us() <= bound_us,
        )


def _sqlite_step(measured: Measured) -> Iterator[Verdict]:
    bounds = {
        "chain-sqlite-1000": ("a step on SQLite", 2),
        "costly-sqlite": ("a step on SQLite whose outcome is committed at once", 4),
    }
    for key, (what, most) in bounds.items():
        if series := measured.get(key):
            ratio = median(series.ratios())
            yield Verdict(asks=f"{what}: ≤ {most} × the line", measured=f"{ratio:.2f} ×", met=ratio <= most)


def _growth(measured: Measured) -> Iterator[Verdict]:
    for store in ("memory", "sqlite"):
        short = measured.get(f"chain-{store}-100")
        long = measured.get(f"chain-{store}-10000") or measured.get(f"chain-{store}-1000")
        if short and long:
            growth = median(_pairwise(long, short))
            title = long.row.title
            yield Verdict(asks=f"{title}: ≤ 1.1 × a step of 100", measured=f"{growth:.2f} ×", met=growth <= 1.1)


def _pairwise(series: Series, other: Series) -> Iterator[float]:
    pairs = zip(series.samples, other.samples, strict=True)
    return (sample.wall_us / reference.wall_us for sample, reference in pairs)


def _stored(measured: Measured) -> Iterator[Verdict]:
    if series := measured.get("kept-sqlite"):
        stored = series.stored_bytes()
        asks = "stored per step on SQLite beside an unchanged 100 KB: ≤ 2,000 B"
        yield Verdict(asks=asks, measured=f"{stored:,.0f} B", met=stored <= 2_000)


def _runs(measured: Measured) -> Iterator[Verdict]:
    for key, what, least in (("park-sqlite", "start→park", 0.5), ("resume-sqlite", "resume→done", 0.35)):
        if series := measured.get(key):
            speed = median(1 / ratio for ratio in series.ratios())
            asks = f"{what} on SQLite: ≥ {least} × the runs per second of the line"
            yield Verdict(asks=asks, measured=f"{speed:.2f} ×", met=speed >= least)


def _queries(measured: Measured) -> Iterator[Verdict]:
    for key in ("find-waiting", "find-due"):
        if series := measured.get(key):
            took_ms = series.wall_us() / 1_000
            yield Verdict(asks=f"{series.row.title}: ≤ 0.5 ms", measured=f"{took_ms:.2f} ms", met=took_ms <= 0.5)


def _process(measured: Measured) -> Iterator[Verdict]:
    if series := measured.get("first-step"):
        bound_ms = 100 * series.line_us() / 1_000 / RAW_PROCESS_MS
        took_ms, peak_mb = series.wall_us() / 1_000, series.peak_mb()
        what = "process start to first resumed step"
        yield Verdict(
            asks=f"{what}: ≤ 100 ms, here {bound_ms:.0f}", measured=f"{took_ms:.0f} ms", met=took_ms <= bound_ms
        )
        yield Verdict(asks=f"{what}: ≤ 35 MB", measured=f"{peak_mb:.1f} MB", met=peak_mb <= 35)
    if series := measured.get("import"):
        took_ms = series.wall_us() / 1_000
        yield Verdict(asks="import abstractruntime: ≤ 20 ms", measured=f"{took_ms:.1f} ms", met=took_ms <= 20)


_JUDGES = (_memory_step, _sqlite_step, _growth, _stored, _runs, _queries, _process)

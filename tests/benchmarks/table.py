"""The table as text and as JSON."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

import msgspec
from series import Measured, Series, Verdict


def machine(began: datetime, rounds: int) -> dict[str, str]:
    """On what was measured, and when."""
    return {
        "date": began.strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} × {_processor()}, {platform.system()} {platform.release()}",
        "software": ", ".join(
            (
                f"Python {platform.python_version()}",
                f"SQLite {sqlite3.sqlite_version}",
                f"msgspec {msgspec.__version__}",
            )
        ),
        "load": f"{os.getloadavg()[0]:.1f} of {os.cpu_count()} in the minute before",
        "rounds": str(rounds),
    }


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def text(about: Mapping[str, str], measured: Measured, verdicts: Sequence[Verdict]) -> str:
    """Everything, as one text."""
    head = [f"{name + ':':10}{value}" for name, value in about.items()]
    return "\n".join((*head, "", *_table(measured), "", *_budget(verdicts)))


def _table(measured: Measured) -> list[str]:
    titles = ("", "per", "µs wall", "spread", "µs CPU", "µs line", "× line", "spread", "× CPU", "B stored", "MB peak")
    rows = [titles, *(_cells(series) for series in measured.values())]
    widths = [max(len(row[place]) for row in rows) for place in range(len(titles))]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cells(series: Series) -> tuple[str, ...]:
    walls = [sample.wall_us for sample in series.samples]
    first = series.samples[0]
    lined = bool(series.lines)
    return (
        series.row.title,
        series.row.unit,
        _number(series.wall_us()),
        f"{_number(min(walls))}–{_number(max(walls))}",
        _number(median(sample.cpu_us for sample in series.samples)),
        _number(series.line_us()) if lined else "",
        f"{median(series.ratios()):.2f}" if lined else "",
        f"{min(series.ratios()):.2f}–{max(series.ratios()):.2f}" if lined else "",
        f"{series.cpu_ratio():.2f}" if lined else "",
        "" if first.stored_bytes is None else f"{series.stored_bytes():,.0f}",
        "" if first.peak_mb is None else f"{series.peak_mb():.1f}",
    )


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1_000 else f"{value:,.0f}"


def _budget(verdicts: Sequence[Verdict]) -> list[str]:
    if not verdicts:
        return []
    width = max(len(verdict.asks) for verdict in verdicts)
    lines = [
        f"{'met' if verdict.met else 'NOT MET':8}{verdict.asks.ljust(width)}  {verdict.measured}"
        for verdict in verdicts
    ]
    met = sum(verdict.met for verdict in verdicts)
    return [f"budget: {met} of {len(verdicts)} met", *lines]


def as_json(about: Mapping[str, str], measured: Measured, verdicts: Sequence[Verdict]) -> dict[str, object]:
    """Everything, for a program."""
    return {
        "about": dict(about),
        "rows": [
            {
                "key": key,
                "title": series.row.title,
                "per": series.row.unit,
                "samples": [sample._asdict() for sample in series.samples],
                "line": [line._asdict() for line in series.lines],
            }
            for key, series in measured.items()
        ],
        "budget": [{"asks": v.asks, "measured": v.measured, "met": v.met} for v in verdicts],
    }

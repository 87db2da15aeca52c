"""What was measured of each row, round by round, and what the budget says to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from plan import Row
from stopwatch import Sample


@dataclass(frozen=True)
class Series:
    """The samples of one row, one per round, and those of its line from the same rounds."""

    row: Row
    samples: list[Sample] = field(default_factory=list)
    lines: list[Sample] = field(default_factory=list)

    def wall_us(self) -> float:
        """The median."""
        return median(sample.wall_us for sample in self.samples)

    def line_us(self) -> float:
        """The median of the line."""
        return median(line.wall_us for line in self.lines)

    def ratios(self) -> list[float]:
        """Time over the line's time, round by round."""
        return [sample.wall_us / line.wall_us for sample, line in zip(self.samples, self.lines, strict=True)]

    def cpu_ratio(self) -> float:
        """The same by the processor's time, median."""
        return median(sample.cpu_us / line.cpu_us for sample, line in zip(self.samples, self.lines, strict=True))

    def stored_bytes(self) -> float:
        """The median; only where the samples have it."""
        return median(sample.stored_bytes or 0 for sample in self.samples)

    def peak_mb(self) -> float:
        """The median; only where the samples have it."""
        return median(sample.peak_mb or 0 for sample in self.samples)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A line of the budget: what it asks for, what was measured."""

    asks: str
    measured: str
    met: bool


Measured: TypeAlias = Mapping[str, Series]
"""By the key of the row."""

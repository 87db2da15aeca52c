"""What one measurement gives: time by the wall and of the processor, bytes stored, peak memory."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple, Self


class Sample(NamedTuple):
    """Per step, run, query or process, as the measurement says. ``peak_mb``: only where a process is measured."""

    wall_us: float
    cpu_us: float
    stored_bytes: float | None = None
    peak_mb: float | None = None

    @classmethod
    def of_process(cls, wall_us: float) -> Self:
        """The whole process so far."""
        return cls(wall_us=wall_us, cpu_us=time.process_time() * 1e6, peak_mb=_peak_mb())


class Stopwatch:
    """Measures the ``with`` blocks it is used for, together."""

    def __init__(self) -> None:
        self._wall_s = self._cpu_s = 0.0

    def __enter__(self) -> Self:
        self._wall_s -= time.perf_counter()
        self._cpu_s -= time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self._cpu_s += time.process_time()
        self._wall_s += time.perf_counter()

    def sample(self, *, per: int, stored: Path | int | None = None) -> Sample:
        """The time per unit. ``stored``: a folder whose files count, or a number of bytes, for all units."""
        if isinstance(stored, Path):
            stored = sum(path.stat().st_size for path in stored.iterdir())
        return Sample(
            wall_us=self._wall_s * 1e6 / per,
            cpu_us=self._cpu_s * 1e6 / per,
            stored_bytes=None if stored is None else stored / per,
        )


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage on Linux: there it counts what the process was before exec, too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

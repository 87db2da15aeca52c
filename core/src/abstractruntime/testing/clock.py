"""A clock that stands still until it is told how much time has passed."""

from __future__ import annotations

import threading

from ..models import Instant

_START = Instant(1_767_225_600_000_000)  # 2026-01-01T00:00:00Z


class VirtualClock:
    """A store's clock for tests: ``MemoryStore(clock=VirtualClock())``. Safe to share between threads."""

    def __init__(self, start: Instant = _START) -> None:
        self._now = start
        self._lock = threading.Lock()

    def __call__(self) -> Instant:
        return self._now

    def __repr__(self) -> str:
        return f"VirtualClock({self._now})"

    def advance(self, seconds: float) -> Instant:
        """Let time pass, and say what time it is then. Negative seconds set the clock back."""
        with self._lock:
            self._now = Instant(self._now + round(seconds * 1_000_000))
            return self._now

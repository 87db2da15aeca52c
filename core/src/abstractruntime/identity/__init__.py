"""Who and when: run ids, the machine's clock, fingerprints of actors."""

from __future__ import annotations

import os
import time
from uuid import UUID

from ..models import Instant, RunState
from .fingerprint import ActorFingerprint

__all__ = ["ActorFingerprint", "new_run_id", "present_instant"]


def new_run_id() -> str:
    """A random UUID (version 4) as text."""
    return str(UUID(bytes=os.urandom(16), version=4))


def present_instant() -> Instant:
    """This machine's clock. Leases, timers and deadlines use the store's clock instead."""
    return Instant(time.time_ns() // 1000)


RunState.born = lambda: (new_run_id(), present_instant())

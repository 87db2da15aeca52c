"""Driving a run in small slices, so that Ctrl-C can stop it between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, TypeAlias

from abstractruntime.models import Instant, RunState
from abstractruntime.workflow import WorkflowSpec

from .lookup import head_of
from .progress import Progress

if TYPE_CHECKING:
    from abstractruntime.runtime import Runtime

BRISK_S = 0.1
"""A slice that took less may be followed by one twice as long: each slice costs a commit, which should not be felt."""
MAX_SLICE = 256
STOPPING = "stopping after this step; Ctrl-C again leaves it in the middle"

Advance: TypeAlias = Callable[[WorkflowSpec, int], RunState]
"""Takes a run up to that many steps further: a tick, or the answer to a wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """Where a run stands after it was driven. ``interrupted``: by Ctrl-C; ``midstep``: in the middle of a step.

    ``due``: when a run in doubt may be taken on, since what was interrupted may be under way until then.
    """

    state: RunState
    elapsed_s: float
    due: Instant | None = None
    interrupted: bool = False
    midstep: bool = False


class _Interrupts:
    """Counts Ctrl-C: the first is kept in mind, the second is a `KeyboardInterrupt`."""

    def __init__(self, progress: Progress) -> None:
        self.seen = False
        self._progress = progress

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True
        # Only a value is set: the thread that shows it writes, since a signal may come in the middle of a write.
        self._progress.message = STOPPING


def drive(
    runtime: Runtime, workflow: WorkflowSpec, run_id: str, *, max_steps: int | None = None, first: Advance | None = None
) -> Drive:
    """Take a run on until it waits or ends, ``max_steps`` are done, or Ctrl-C is pressed.

    ``first`` replaces the first tick. The first Ctrl-C lets the present step come to its end, the second leaves it in
    the middle: then its effect has a decision in the ledger and no outcome, and its recovery class says what happens.
    """

    def tick(spec: WorkflowSpec, steps: int) -> RunState:
        return runtime.tick(workflow=spec, run_id=run_id, max_steps=steps)

    begun = time.monotonic()
    with Progress() as progress, _interrupts(progress) as interrupts:
        progress.at(runtime.get_state(run_id))
        watched = progress.watch(workflow)
        try:
            state = _slices(watched, first or tick, tick, interrupts, max_steps)
        except KeyboardInterrupt:
            state = runtime.get_state(run_id)
            return Drive(state=state, elapsed_s=time.monotonic() - begun, interrupted=True, midstep=True)
    return Drive(
        state=state,
        elapsed_s=time.monotonic() - begun,
        due=head_of(runtime.store, state).wake_at if state.stopped == "in_doubt" else None,
        interrupted=interrupts.seen and state.stopped == "max_steps",
    )


def _slices(
    workflow: WorkflowSpec, advance: Advance, tick: Advance, interrupts: _Interrupts, max_steps: int | None
) -> RunState:
    size, left = 1, max_steps
    while True:
        steps = size if left is None else min(size, left)
        begun = time.monotonic()
        state = advance(workflow, steps)
        left = None if left is None else left - steps
        if state.stopped != "max_steps" or interrupts.seen or left == 0:
            return state
        brisk = time.monotonic() - begun < BRISK_S
        size, advance = min(size * 2, MAX_SLICE) if brisk else 1, tick


@contextmanager
def _interrupts(progress: Progress) -> Iterator[_Interrupts]:
    """Ctrl-C counts while this lasts. A process that was started to ignore it goes on ignoring it."""
    interrupts = _Interrupts(progress)
    present = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or present is signal.SIG_IGN:
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, present)

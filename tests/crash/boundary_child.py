"""A process that drives one run and kills itself at the boundary it is told.

``python boundary_child.py DB ACTS KILL_AT AHEAD_S``: KILL_AT 0 goes on to the end and prints all boundaries.
AHEAD_S: how far its clock is ahead, so that leases and time limits of those who died before it have run out.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from abstractruntime import (
    Effect,
    EffectOutcome,
    EffectSpec,
    Reconciled,
    Recovery,
    RunState,
    RunStatus,
    StepPlan,
    WorkflowSpec,
)
from abstractruntime.config import RuntimeSettings
from abstractruntime.effects import EffectContext
from abstractruntime.errors import UnknownRun
from abstractruntime.models import Instant
from abstractruntime.runtime import Runtime
from abstractruntime_sqlite.store import SqliteStore

RUN_ID = "crash"
TIMEOUT_S = 60.0
RULES = RuntimeSettings(lease_s=30.0, lease_wait_s=0.0)
CLASSES = [Recovery.PURE, Recovery.READ, Recovery.IDEMPOTENT, Recovery.RECONCILE, Recovery.ASK]


class Boundaries:
    """Counts boundaries; at the chosen one the process dies as if its plug were pulled."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at
        self.passed: list[str] = []

    def __call__(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def acts_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def handlers(acts: Path, boundary: Callable[[str], None]) -> dict[str, EffectSpec]:
    """One effect per recovery class. Acting is one line in a file; the world of this test."""

    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        boundary(f"{effect.type}: before the act")
        line = {"type": effect.type, "key": ctx.key, "attempt": ctx.attempt, "epoch": ctx.epoch}
        descriptor = os.open(acts, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, (json.dumps(line) + "\n").encode())
        os.close(descriptor)
        boundary(f"{effect.type}: after the act")
        return EffectOutcome.completed({"key": ctx.key, "said": effect.payload["said"]})

    def reconcile(run: RunState, effect: Effect, ctx: EffectContext) -> Reconciled:
        boundary(f"{effect.type}: reconcile")
        done = any(line["key"] == ctx.key for line in acts_of(acts))
        result = {"key": ctx.key, "said": effect.payload["said"]}
        return Reconciled.done(result) if done else Reconciled.not_done()

    return {
        recovery.value: EffectSpec(
            handler=act,
            recovery=recovery,
            timeout_s=TIMEOUT_S,
            reconcile=reconcile if recovery is Recovery.RECONCILE else None,
        )
        for recovery in CLASSES
    }


def workflow() -> WorkflowSpec:
    """One node per recovery class, a pure transition and an end. Each node counts its visits."""

    def deciding(recovery: Recovery, next_node: str) -> Callable[[RunState, object], StepPlan]:
        def node(run: RunState, ctx: object) -> StepPlan:
            run.vars["visits"] = [*run.vars.get("visits", []), recovery.value]
            effect = Effect(recovery.value, {"said": len(run.vars["visits"])}, f"results.{recovery.value}")
            return StepPlan(recovery.value, effect=effect, next_node=next_node)

        return node

    names = [recovery.value for recovery in CLASSES]
    nodes: dict[str, Any] = {
        recovery.value: deciding(recovery, next_name)
        for recovery, next_name in zip(CLASSES, [*names[1:], "turn"], strict=True)
    }
    nodes["turn"] = lambda run, ctx: StepPlan("turn", next_node="end")
    nodes["end"] = lambda run, ctx: StepPlan("end", complete_output={"results": run.vars["results"]})
    return WorkflowSpec("crash", names[0], nodes)


class BoundaryStore(SqliteStore):
    """The SQLite store with a boundary on each side of every commit."""

    boundary: Callable[[str], None]

    def commit(self, commits: Any) -> Any:
        kinds = "+".join(json.loads(record.split(b"\n")[0])["kind"] for each in commits for record in each.records)
        self.boundary(f"before commit of {kinds or 'no record'}")
        results = super().commit(commits)
        self.boundary(f"after commit of {kinds or 'no record'}")
        return results


def drive_to_the_end(runtime: Runtime, acts: Path) -> tuple[RunState, list[RunState]]:
    """Start the run or go on with it; where it is in doubt, look at the world and say what became of the effect.

    Returns its end, and the states in which it was in doubt.
    """
    doubts = []
    try:
        state = runtime.tick(workflow=workflow(), run_id=RUN_ID)
    except UnknownRun:
        runtime.start(workflow=workflow(), run_id=RUN_ID, vars={})
        state = runtime.tick(workflow=workflow(), run_id=RUN_ID)
    while state.status is RunStatus.WAITING:
        doubts.append(state)
        key = state.waiting.details["key"]
        done = any(line["key"] == key for line in acts_of(acts))
        outcome = EffectOutcome.completed({"key": key, "said": 5}) if done else "retry"
        runtime.resolve(RUN_ID, outcome, actor_id="operator")
        state = runtime.tick(workflow=workflow(), run_id=RUN_ID)
    return state, doubts


def main() -> None:
    database, acts, kill_at, ahead_s = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    boundary = Boundaries(kill_at)
    store = BoundaryStore(database, clock=lambda: Instant(time.time_ns() // 1000 + ahead_s * 1_000_000))
    store.boundary = boundary
    with store, Runtime(store=store, effect_handlers=handlers(acts, boundary), settings=RULES) as runtime:
        state, _ = drive_to_the_end(runtime, acts)
    print(json.dumps({"status": state.status, "boundaries": boundary.passed}))


if __name__ == "__main__":
    main()

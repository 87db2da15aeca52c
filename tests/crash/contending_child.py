"""A process that drives, answers, cancels and retries runs of a database that others are at work on as well.

``python contending_child.py DB ACTS SEED SECONDS``: works until all runs have ended, or SECONDS have passed.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
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
from abstractruntime.errors import Conflict, Leased, NotWaiting, StoreBusy, UnknownWait, WrongStatus
from abstractruntime.runtime import Runtime
from abstractruntime_sqlite.store import SqliteStore

RUNS = 40
LEASE_S = 0.5
TIMEOUT_S = 2.0
"""Longer than the pause of the process that is stopped: its act comes before anybody may doubt it."""
RULES = RuntimeSettings(lease_s=LEASE_S, lease_wait_s=0.05, start_grace_s=0.0)
TERMINAL = {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}
BUSY = (Conflict, Leased, NotWaiting, StoreBusy, UnknownWait, WrongStatus)
"""What a caller has to expect who is not alone."""


def acts_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def handlers(acts: Path) -> dict[str, EffectSpec]:
    """Acting is one line in a file; some acts take a moment, and some fail after it."""

    def act(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        line = {"type": effect.type, "run": ctx.run_id, "step": ctx.step, "pid": os.getpid(), "epoch": ctx.epoch}
        descriptor = os.open(acts, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, (json.dumps(line) + "\n").encode())
        os.close(descriptor)
        time.sleep(random.random() * 0.02)
        if effect.payload["fails_before"] > ctx.step:
            return EffectOutcome.failed("not yet")
        return EffectOutcome.completed({"step": ctx.step})

    def reconcile(run: RunState, effect: Effect, ctx: EffectContext) -> Reconciled:
        done = any((line["run"], line["step"]) == (ctx.run_id, ctx.step) for line in acts_of(acts))
        return Reconciled.done({"step": ctx.step}) if done else Reconciled.not_done()

    return {
        "idempotent": EffectSpec(handler=act, recovery=Recovery.IDEMPOTENT),
        "ask": EffectSpec(handler=act, recovery=Recovery.ASK, timeout_s=TIMEOUT_S),
        "reconcile": EffectSpec(handler=act, recovery=Recovery.RECONCILE, timeout_s=TIMEOUT_S, reconcile=reconcile),
    }


def workflow() -> WorkflowSpec:
    """Pay, ask, remember, and pay again; every seventh run fails at its first attempt and has to be retried."""

    def effect(kind: str, next_node: str) -> Any:
        def node(run: RunState, ctx: object) -> StepPlan:
            run.vars["visited"].append(kind)
            payload = {"visited": run.vars["visited"], "fails_before": run.vars["fails_before"]}
            return StepPlan(kind, effect=Effect(kind, payload, f"results.{kind}"), next_node=next_node)

        return node

    def question(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("question", effect=Effect("ask_user", {"prompt": "on?"}, "results.answer"), next_node="ask")

    def end(run: RunState, ctx: object) -> StepPlan:
        return StepPlan("end", complete_output={"results": run.vars["results"]})

    nodes = {
        "reconcile": effect("reconcile", "question"),
        "question": question,
        "ask": effect("ask", "idempotent"),
        "idempotent": effect("idempotent", "end"),
        "end": end,
    }
    return WorkflowSpec("contended", "reconcile", nodes)


def name_of(number: int) -> str:
    return f"run-{number:02}"


def work(runtime: Runtime, acts: Path, run_id: str, answers: list[str], dice: random.Random) -> bool:
    """One look at a run, and what it needs. Whether it has ended."""
    state = runtime.get_state(run_id)
    number = int(run_id[-2:])
    if state.status is RunStatus.FAILED:
        runtime.retry(run_id)
    elif state.status in TERMINAL:
        return True
    elif number % 10 == 9 and dice.random() < 0.3:
        runtime.cancel_run(run_id, reason="enough")
    elif dice.random() < 0.1:
        runtime.update_limits(run_id, {"max_iterations": dice.randrange(1, 100)})
    elif state.status is RunStatus.RUNNING:
        runtime.tick(workflow=workflow(), run_id=run_id, max_steps=dice.choice([1, 2, 100]))
    elif state.waiting.reason == "job":
        key = (run_id, state.waiting.details["step"])
        done = any((line["run"], line["step"]) == key for line in acts_of(acts))
        runtime.resolve(run_id, EffectOutcome.completed({"by": "hand"}) if done else "retry")
    else:
        answer = f"{os.getpid()}:{dice.random()}"
        runtime.resume(workflow=workflow(), run_id=run_id, wait_key=None, payload=answer, max_steps=1)
        answers.append(answer)
    return False


def main() -> None:
    database, acts, seed, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    dice = random.Random(seed)
    until = time.monotonic() + seconds
    answers: list[str] = []
    with (
        SqliteStore(database) as store,
        Runtime(store=store, effect_handlers=handlers(acts), settings=RULES) as runtime,
    ):
        left = [name_of(number) for number in range(RUNS)]
        print("working", flush=True)
        while left and time.monotonic() < until:
            dice.shuffle(left)
            ended = set()
            for run_id in left:
                try:
                    if work(runtime, acts, run_id, answers, dice):
                        ended.add(run_id)
                except BUSY:
                    continue
            left = [run_id for run_id in left if run_id not in ended]
            time.sleep(0.005)
    print(json.dumps({"left": left, "answers": answers}))


if __name__ == "__main__":
    main()

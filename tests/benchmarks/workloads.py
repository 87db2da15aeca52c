"""What is measured of the runtime. A step is one `pure` effect; a state is 1 KB where nothing else is said."""

from __future__ import annotations

import time
from pathlib import Path

from stopwatch import Sample, Stopwatch

from abstractruntime import (
    Effect,
    EffectOutcome,
    EffectSpec,
    Recovery,
    RunState,
    RunStatus,
    Runtime,
    StepPlan,
    WorkflowSpec,
    open_runtime,
    open_store,
)
from abstractruntime.config import RuntimeSettings
from abstractruntime.effects import EffectContext
from abstractruntime.store.contract import RunQuery, Store

TEXT = "x" * 1000


def _add_one(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
    return EffectOutcome.completed(effect.payload["n"] + 1)


def _count(run: RunState, ctx: object) -> StepPlan:
    n = run.vars["n"]
    if n == run.vars["goal"]:
        return StepPlan("count", complete_output={"n": n})
    return StepPlan("count", effect=Effect("add_one", {"n": n}, result_key="n"), next_node="count")


def _ask(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("ask", effect=Effect("wait_event", {"wait_key": "go"}, result_key="answer"), next_node="finish")


def _finish(run: RunState, ctx: object) -> StepPlan:
    return StepPlan("finish", complete_output={"answer": run.vars["answer"]})


CHAIN = WorkflowSpec("chain", "count", {"count": _count})
QUESTION = WorkflowSpec("question", "ask", {"ask": _ask, "finish": _finish})


def _url(store: str, folder: Path) -> str:
    return "memory:" if store == "memory" else f"{store}:///{folder}/runs.db"


def chain(folder: Path, *, store: str, steps: int, total: int, kept_bytes: int = 0, costly: bool = False) -> Sample:
    """Runs of ``steps`` steps each, ``total`` steps together. ``kept_bytes``: state that does not change, as a list of
    dicts. ``costly``: outcomes are committed at once. Measured is `tick`; the first run warms up and is not."""
    handlers = {"add_one": EffectSpec(handler=_add_one, recovery=Recovery.PURE, costly=costly)}
    state = {"n": 0, "goal": steps, "text": TEXT}
    if kept_bytes:
        state["kept"] = [{"line": number, "text": "x" * 80} for number in range(kept_bytes // 100)]
    watch, stored = Stopwatch(), 0
    with open_runtime(_url(store, folder), workflows=[CHAIN], effect_handlers=handlers) as runtime:
        warm_up = runtime.start(workflow=CHAIN, vars={**state, "goal": 100})
        runtime.tick(run_id=warm_up, max_steps=200)
        for _ in range(total // steps):
            run_id = runtime.start(workflow=CHAIN, vars=state)
            with watch:
                ended = runtime.tick(run_id=run_id, max_steps=steps + 1)
            _expect(ended, RunStatus.COMPLETED)
            if store == "memory":
                stored += sum(map(len, runtime.store.ledger(run_id)))
    return watch.sample(per=total, stored=stored if store == "memory" else folder)


def park(folder: Path, *, store: str, runs: int) -> Sample:
    """`start`, and `tick` until the run waits."""
    watch = Stopwatch()
    with open_runtime(_url(store, folder), workflows=[QUESTION]) as runtime:
        runtime.tick(run_id=runtime.start(workflow=QUESTION))  # the first wait asks the plugins for handlers
        for _ in range(runs):
            with watch:
                parked = runtime.tick(run_id=runtime.start(workflow=QUESTION, vars={"text": TEXT}))
            _expect(parked, RunStatus.WAITING)
    return watch.sample(per=runs, stored=None if store == "memory" else folder)


def resume(folder: Path, *, store: str, runs: int) -> Sample:
    """`resume` until the run ends, in a runtime that has seen none of the runs before."""
    watch = Stopwatch()
    with open_store(_url(store, folder)) as opened:
        run_ids = _park(opened, runs)
        with open_runtime(store=opened, workflows=[QUESTION]) as runtime:
            for run_id in run_ids:
                with watch:
                    ended = runtime.resume(run_id=run_id, wait_key="go", payload=1)
                _expect(ended, RunStatus.COMPLETED)
    return watch.sample(per=runs, stored=None if store == "memory" else folder)


def prepare_parked(folder: Path, *, runs: int) -> None:
    """A file with runs that wait, and one that is due for each hundred of them."""
    with open_store(_url("sqlite", folder)) as opened:
        _park(opened, runs)
        with Runtime(store=opened, settings=RuntimeSettings(start_grace_s=0)) as runtime:
            for _ in range(runs // 100):
                runtime.start(workflow=QUESTION, vars={"text": TEXT})


def find_waiting(folder: Path, *, queries: int) -> Sample:
    """The first page (100) of runs that wait."""
    return _find(folder, RunQuery(status=("waiting",)), queries)


def find_due(folder: Path, *, queries: int) -> Sample:
    """The first page (100) of runs that are due, the longest due first."""
    return _find(folder, RunQuery(due=True, order="wake_at"), queries)


def first_step(folder: Path, *, started: float) -> Sample:
    """From process start to the first resumed step, which ends its run. ``started``: by `time.monotonic`."""
    with open_runtime(_url("sqlite", folder), workflows=[QUESTION]) as runtime:
        (head,) = runtime.find(status="waiting", limit=1).items
        ended = runtime.resume(run_id=head.run_id, wait_key="go", payload=1)
        took_us = (time.monotonic() - started) * 1e6
    _expect(ended, RunStatus.COMPLETED)
    return Sample.of_process(took_us)


def _park(store: Store, runs: int) -> list[str]:
    with open_runtime(store=store, workflows=[QUESTION]) as runtime:
        run_ids = [runtime.start(workflow=QUESTION, vars={"text": TEXT}) for _ in range(runs)]
        for run_id in run_ids:
            _expect(runtime.tick(run_id=run_id), RunStatus.WAITING)
    return run_ids


def _find(folder: Path, query: RunQuery, queries: int) -> Sample:
    watch = Stopwatch()
    with open_store(_url("sqlite", folder)) as store:
        store.find(query)
        for _ in range(queries):
            with watch:
                page = store.find(query)
            if not page.items:
                raise AssertionError(f"{query} found nothing")
    return watch.sample(per=queries)


def _expect(state: RunState, status: RunStatus) -> None:
    if state.status is not status:
        raise AssertionError(f"run {state.run_id} is {state.status}, not {status}: {state.error}")

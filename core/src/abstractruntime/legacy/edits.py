"""Edits by hand: a state that a program changed and saved, as records of the run's ledger."""

from __future__ import annotations

from typing import cast

import msgspec

from ..codec import plain
from ..errors import InvalidInstant
from ..journal import Folded, Header, Journal
from ..models import Instant, JsonDict, Recovery, RunState, RunStatus, WaitReason, WaitState, parse_instant
from ..store.contract import Commit, Fence
from ..views import view

__all__ = ["EDITOR", "begin", "edit_commit", "likeness", "record_edit"]

EDITOR = "abstractruntime.legacy"
"""Who holds a run while an edit is committed."""

_sorted = msgspec.json.Encoder(order="sorted")

# Which effect a wait comes from, for waits that no effect asked for.
_EFFECTS = {
    WaitReason.EVENT: "wait_event",
    WaitReason.UNTIL: "wait_until",
    WaitReason.USER: "ask_user",
    WaitReason.JOB: "job",
    WaitReason.SUBWORKFLOW: "start_subworkflow",
}
_WAIT_TIMEOUT_US = 300_000_000


def likeness(run: RunState) -> bytes:
    """What two states have in common that say the same of a run: the same bytes, whatever the order of their keys.

    Times and ids do not count: a program that saves what it loaded has not edited anything.
    """
    wait = None if run.waiting is None else _described(run.waiting)
    said = [str(run.status), run.current_node, run.vars, wait, run.output, run.error]
    return _sorted.encode(plain(said, "run"))


def begin(journal: Journal, run: RunState, now: Instant) -> None:
    """The first records of a ledger for a state that has none."""
    fields: Header = {"workflow": run.workflow_id, "node": run.current_node}
    names = {"actor": run.actor_id, "session": run.session_id, "parent": run.parent_run_id}
    fields |= {name: value for name, value in names.items() if value is not None}
    journal.write_delta("created", _instant(run.created_at, now), fields, cast(JsonDict, plain(run.vars, "vars")))
    record_edit(journal, run, _instant(run.updated_at, now))


def record_edit(journal: Journal, run: RunState, at: Instant) -> bool:
    """Write what ``run`` says other than the journal's state. Whether there was anything.

    Raises `InvalidValue` or `InvalidInstant` for what no record can hold; nothing is written then.
    """
    state = journal.state
    vars = cast(JsonDict, plain(run.vars, "vars"))
    present = view(state, state.vars)
    if likeness(present) == likeness(run):
        return False
    until = None if run.waiting is None or run.waiting.until is None else parse_instant(run.waiting.until)
    status = RunStatus(run.status)
    fields: Header = {}
    moved = _place(run) != _place(present)
    if moved:
        # A wait and an output have records of their own, written below: before them the run is as good as running.
        parks_or_ends = status in (RunStatus.WAITING, RunStatus.COMPLETED)
        fields = {"node": run.current_node, "status": (RunStatus.RUNNING if parks_or_ends else status).value}
    operands = [("cause", run.error)] if run.error != present.error else []
    journal.write_delta("edited", at, fields, vars, operands=operands)
    if moved and status is RunStatus.WAITING and run.waiting is not None:
        _record_wait(journal, run.current_node, run.waiting, until, at)
    elif moved and status is RunStatus.COMPLETED:
        ended: Header = {"node": run.current_node, "step": state.step + 1}
        journal.write_delta("finished", at, ended, None, operands=[("output", run.output or {})])
    return True


def _record_wait(journal: Journal, node: str, wait: WaitState, until: Instant | None, at: Instant) -> None:
    state: Folded = journal.state
    reason = WaitReason(wait.reason)
    step = state.step + 1
    decided: Header = {
        "node": node,
        "step": step,
        "effect": _EFFECTS[reason],
        "recovery": Recovery.IDEMPOTENT.value,
        "timeout_us": _WAIT_TIMEOUT_US,
    }
    decided |= {
        name: value
        for name, value in (("next", wait.resume_to_node), ("result_key", wait.result_key))
        if value is not None
    }
    journal.write_delta("decided", at, decided, None)
    waiting: Header = {
        "step": step,
        "id": f"w{state.length + 1}",
        "reason": reason.value,
        "wait_key": wait.wait_key or f"{reason}:{state.run_id}:{node}",
    }
    if until is not None:
        waiting["until"] = until
    said = {
        "prompt": wait.prompt,
        "choices": wait.choices,
        "allow_free_text": wait.allow_free_text,
        "details": wait.details,
    }
    journal.write_delta("waiting", at, waiting, None, operands=[("wait", said)])


def edit_commit(journal: Journal, fence: Fence, now: Instant) -> Commit:
    """The journal's pending records as a commit of a run that nobody holds."""
    state = journal.state
    return Commit(
        run_id=state.run_id,
        owner=EDITOR,
        take=fence.length > 0,
        expect=fence,
        records=journal.take_pending(),
        head_hash=state.head_hash,
        projection=state.projection(),
        lease_s=0,
        wake_at=state.wake_at(now),
    )


def _place(run: RunState) -> bytes:
    """Where a run stands, without its vars."""
    wait = None if run.waiting is None else _described(run.waiting)
    return _sorted.encode(plain([str(run.status), run.current_node, wait, run.output], "run"))


def _described(wait: WaitState) -> JsonDict:
    """A wait without its id, which 0.2 does not know."""
    return {
        "reason": str(wait.reason),
        "wait_key": wait.wait_key,
        "until": None if wait.until is None else parse_instant(wait.until),
        "resume_to_node": wait.resume_to_node,
        "result_key": wait.result_key,
        "prompt": wait.prompt,
        "choices": None if wait.choices is None else [*wait.choices],
        "allow_free_text": wait.allow_free_text,
        "details": wait.details,
    }


def _instant(stamp: str | None, otherwise: Instant) -> Instant:
    try:
        return otherwise if stamp is None else parse_instant(stamp)
    except InvalidInstant:  # 0.2 did not look at its time stamps
        return otherwise

"""The state of a run: what its records fold to."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ..codec import Ref
from ..models import Instant, Recovery, RunStatus, WaitReason
from ..store.contract import GENESIS, Projection, WaitHead


class Decision(Struct, kw_only=True, omit_defaults=True):
    """An effect that was decided and has no outcome yet. ``payload`` leaves out what ``refs`` name, until it is asked
    for (`Journal.payload`). ``at``: when its present attempt began. ``idle``: as of its last record nobody is at it.
    ``cleared``: it is known not to have been done."""

    step: int
    node: str
    effect: str
    payload: dict[str, Any]
    refs: list[Ref] = []
    result_key: str | None = None
    next_node: str | None = None
    recovery: Recovery = Recovery.ASK
    costly: bool = False
    timeout_us: int = 0
    at: Instant = Instant(0)
    key: str | None = None
    idle: bool = False
    cleared: bool = False


class Wait(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An open wait. ``parked``: why the engine itself parked the run ("doubt", "poison"), "" for a wait asked for."""

    wait_id: str
    reason: WaitReason
    wait_key: str
    until: Instant | None = None
    resume_to_node: str | None = None
    result_key: str | None = None
    prompt: str | None = None
    choices: list[str] | None = None
    allow_free_text: bool = True
    details: dict[str, Any] | None = None
    parked: str = ""


class Folded(Struct, kw_only=True, omit_defaults=True):
    """Where a run stands after ``length`` records: a pure function of them. Its bytes are the checkpoint.

    ``step``: visits of nodes so far. ``visits``: the same by node. ``attempts``: attempts at the open decision that
    ended without a result. ``format``: the newest among the records.
    """

    run_id: str
    workflow_id: str
    workflow_version: str = ""
    status: RunStatus = RunStatus.RUNNING
    node: str = ""
    vars: dict[str, Any] = {}
    output: dict[str, Any] | None = None
    error: str | None = None
    waits: list[Wait] = []
    decision: Decision | None = None
    step: int = 0
    attempts: int = 0
    visits: dict[str, int] = {}
    actor_id: str | None = None
    session_id: str | None = None
    parent_run_id: str | None = None
    root_run_id: str | None = None
    queue: str = "default"
    priority: int = 0
    partition_key: str | None = None
    tags: list[str] = []
    created_at: Instant = Instant(0)
    updated_at: Instant = Instant(0)
    since: Instant = Instant(0)
    format: int = 1
    length: int = 0
    head_hash: str = GENESIS

    def projection(self) -> Projection:
        """What of this state is indexed."""
        return Projection(
            workflow_id=self.workflow_id,
            workflow_version=self.workflow_version,
            status=self.status.value,
            since=self.since,
            created_at=self.created_at,
            waits=tuple(
                WaitHead(wait_id=wait.wait_id, reason=wait.reason.value, wait_key=wait.wait_key, until=wait.until)
                for wait in self.waits
            ),
            queue=self.queue,
            priority=self.priority,
            partition_key=self.partition_key,
            parent_run_id=self.parent_run_id,
            root_run_id=self.root_run_id,
            session_id=self.session_id,
            actor_id=self.actor_id,
            tags=tuple(self.tags),
            format=self.format,
        )

    def wake_at(self, now: Instant) -> Instant | None:
        """When somebody should look at the run next if nothing happens: now while it can go on, at its next timer while
        it waits, never once it has ended."""
        if self.status is RunStatus.RUNNING:
            return now
        if self.status is RunStatus.WAITING:
            timers = (wait.until for wait in self.waits if wait.reason is WaitReason.UNTIL)
            return min((until for until in timers if until is not None), default=None)
        return None

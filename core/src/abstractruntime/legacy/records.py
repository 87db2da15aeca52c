"""The ledger rows of 0.2 and the clock of 0.2."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from ..identity import new_run_id
from ..models import Effect, JsonDict, JsonValue, RunState, StepStatus, WaitState

__all__ = ["DefaultRunContext", "StepRecord", "utc_now", "utc_now_iso"]


def utc_now() -> datetime:
    """This machine's time, in UTC. Nodes ask their context (``ctx.now_iso()``), which gives the store's."""
    return datetime.now(UTC)


def utc_now_iso() -> str:
    """`utc_now` as ISO 8601 text."""
    return utc_now().isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class DefaultRunContext:
    """A context for nodes that are called without a runtime."""

    def now_iso(self) -> str:
        """This machine's time."""
        return utc_now_iso()


@dataclass
class StepRecord:
    """A row of a 0.2 ledger: a step that began, or what became of it.

    ``effect``: None or ``{"type", "payload", "result_key"}``. ``attempt`` counts from 1. ``prev_hash``, ``record_hash``
    and ``signature`` are for ledger stores that chain their rows. `start` makes a row; each ``finish_…`` changes it to
    what became of the step, sets ``ended_at`` and returns it.
    """

    run_id: str
    step_id: str
    node_id: str
    status: StepStatus
    effect: JsonDict | None = None
    result: JsonDict | None = None
    error: str | None = None
    started_at: str = field(default_factory=utc_now_iso)
    ended_at: str | None = None
    actor_id: str | None = None
    session_id: str | None = None
    attempt: int = 1
    idempotency_key: str | None = None
    prev_hash: str | None = None
    record_hash: str | None = None
    signature: str | None = None

    @classmethod
    def start(
        cls,
        *,
        run: RunState,
        node_id: str,
        effect: Effect | None,
        attempt: int = 1,
        idempotency_key: str | None = None,
    ) -> StepRecord:
        """A row for a step that begins now, with a new ``step_id`` (uuid4)."""
        return cls(
            run_id=run.run_id,
            step_id=new_run_id(),
            node_id=node_id,
            status=StepStatus.STARTED,
            effect=None if effect is None else _described(effect),
            actor_id=run.actor_id,
            session_id=run.session_id,
            attempt=attempt,
            idempotency_key=idempotency_key,
        )

    def finish_success(self, result: JsonDict | None = None) -> StepRecord:
        """The step completed with ``result``."""
        self.result = result
        return self._finish(StepStatus.COMPLETED)

    def finish_waiting(self, wait_state: WaitState) -> StepRecord:
        """The step waits; ``result`` becomes ``{"wait": …}`` with the fields of the wait."""
        self.result = {"wait": {**asdict(wait_state), "reason": str(wait_state.reason)}}
        return self._finish(StepStatus.WAITING)

    def finish_failure(self, error: str) -> StepRecord:
        """The step failed for the reason ``error``."""
        self.error = error
        return self._finish(StepStatus.FAILED)

    def _finish(self, status: StepStatus) -> StepRecord:
        self.status = status
        self.ended_at = utc_now_iso()
        return self


def _described(effect: Effect) -> JsonDict:
    described: dict[str, JsonValue] = {
        "type": str(effect.type),
        "payload": effect.payload,
        "result_key": effect.result_key,
    }
    return described

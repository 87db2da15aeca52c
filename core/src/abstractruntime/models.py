"""Values that users hold: effects, plans, waits, run states, ledger rows. No I/O, no clock.

An *instant* is an ``int``: microseconds since 1970-01-01T00:00:00Z. Instants are shown to users as ISO 8601 text in
UTC with six digits (`instant_text`), and read from text with any offset (`parse_instant`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import ClassVar, Literal, NewType, TypeAlias

from .errors import InvalidInstant, UsageError

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"
JsonDict: TypeAlias = dict[str, JsonValue]

Instant = NewType("Instant", int)
"""Microseconds since 1970-01-01T00:00:00Z."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def instant_of(moment: datetime) -> Instant:
    """The instant of an aware datetime. Raises `InvalidInstant` for a naive one."""
    if moment.tzinfo is None:
        raise InvalidInstant(
            f"{moment.isoformat()} has no offset, so it names no instant",
            hint="give the time zone: datetime.now(timezone.utc), or '…T12:00:00+02:00'",
            value=moment.isoformat(),
        )
    return Instant((moment - _EPOCH) // _MICROSECOND)


def instant_text(instant: Instant) -> str:
    """ISO 8601 in UTC with six digits: ``2026-01-31T12:00:00.000000+00:00``. Sorts like the instant."""
    second, microsecond = divmod(instant, 1_000_000)
    return f"{_second_text(second)}.{microsecond:06d}+00:00"


@lru_cache(maxsize=256)
def _second_text(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).replace(tzinfo=None).isoformat()


def parse_instant(value: str | datetime) -> Instant:
    """The instant of ISO 8601 text with an offset, or of an aware datetime. Raises `InvalidInstant`."""
    if isinstance(value, datetime):
        return instant_of(value)
    if not isinstance(value, str):
        raise InvalidInstant(f"{value!r} is no time stamp", hint="give ISO 8601 text or a datetime", value=repr(value))
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise InvalidInstant(
            f"{value!r} is no ISO 8601 time stamp", hint="write it like 2026-01-31T12:00:00+00:00", value=value
        ) from None
    return instant_of(moment)


def plain_text(text: str) -> str:
    """The text itself where it is a member of somebody's ``class E(str, Enum)``, whose ``str()`` is ``E.NAME``."""
    return text if type(text) is str else str.__str__(text)


class RunStatus(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Completed, failed or cancelled; only a failed run may go on, by an operator's `retry`."""
        return self in _TERMINAL


_TERMINAL = frozenset((RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED))


class WaitReason(StrEnum):
    """What kind of answer a wait is for. ``job``: somebody else's work, an operator's included."""

    EVENT = "event"
    UNTIL = "until"
    USER = "user"
    JOB = "job"
    SUBWORKFLOW = "subworkflow"


class EffectType(StrEnum):
    """The built-in effect types. The set is open: any text that has a handler is an effect type."""

    WAIT_EVENT = "wait_event"
    WAIT_UNTIL = "wait_until"
    ASK_USER = "ask_user"
    LLM_CALL = "llm_call"
    TOOL_CALLS = "tool_calls"
    START_SUBWORKFLOW = "start_subworkflow"


class StepStatus(StrEnum):
    """The status of a row of the ledger."""

    STARTED = "started"
    COMPLETED = "completed"
    WAITING = "waiting"
    FAILED = "failed"


class Recovery(StrEnum):
    """What is done with an effect whose owner died between its decision and its outcome."""

    PURE = "pure"
    """Touches nothing: done again."""
    READ = "read"
    """Only reads: done again."""
    IDEMPOTENT = "idempotent"
    """The other side knows the idempotency key: done again under the same key."""
    RECONCILE = "reconcile"
    """The handler's `reconcile` asks the other side whether it was done."""
    ASK = "ask"
    """Nobody can know: the run parks in doubt, with the evidence, until somebody resolves it."""

    @property
    def repeatable(self) -> bool:
        """Whether a take-over may simply do it again."""
        return self in _REPEATABLE


_REPEATABLE = frozenset((Recovery.PURE, Recovery.READ, Recovery.IDEMPOTENT))


@dataclass(frozen=True, slots=True)
class Effect:
    """What a node asks for.

    ``type``: a built-in `EffectType` or any text that has a handler. ``payload``: JSON values. ``result_key``: dotted
    path into ``vars`` where the result is put, made as needed; None drops the result (the ledger keeps it).
    ``recovery`` and ``timeout_s`` override what the handler declares, for this call.
    """

    type: str
    payload: JsonDict = field(default_factory=dict)
    result_key: str | None = None
    recovery: Recovery | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What a node decides: an effect, a next node, or the end.

    ``complete_output``: a dict (it may be empty) completes the run. ``effect`` with ``next_node``: where the run goes
    on once the effect has a result. Only ``next_node``: a pure transition.
    """

    node_id: str
    effect: Effect | None = None
    next_node: str | None = None
    complete_output: JsonDict | None = None


@dataclass(frozen=True, slots=True)
class WaitState:
    """What a run waits for. ``until``: ISO 8601 text. ``wait_id`` is unique in the run, ``wait_key`` need not be."""

    reason: WaitReason
    wait_key: str | None = None
    until: str | None = None
    resume_to_node: str | None = None
    result_key: str | None = None
    prompt: str | None = None
    choices: list[str] | None = None
    allow_free_text: bool = True
    details: JsonDict | None = None
    wait_id: str | None = None


def _now_text() -> str | None:
    """The present time as text; None where nobody gave this module a clock."""
    return instant_text(RunState.born()[1]) if RunState.born is not None else None


@dataclass(slots=True)
class RunState:
    """Where a run stands. A copy: changing it changes nothing but itself.

    ``step`` counts the visits of nodes so far; ``length`` is the number of records in the ledger; ``stopped`` says why
    the call that returned this state stopped while the run could go on (``"max_steps"``, ``"in_doubt"``: the time an
    interrupted effect may still take is being waited out), None otherwise.
    """

    run_id: str
    workflow_id: str
    status: RunStatus
    current_node: str
    vars: JsonDict = field(default_factory=dict)
    waiting: WaitState | None = None
    output: JsonDict | None = None
    error: str | None = None
    created_at: str | None = field(default_factory=_now_text)
    updated_at: str | None = field(default_factory=_now_text)
    actor_id: str | None = None
    session_id: str | None = None
    parent_run_id: str | None = None
    workflow_version: str = ""
    waits: tuple[WaitState, ...] = ()
    tags: tuple[str, ...] = ()
    step: int = 0
    length: int = 0
    stopped: Literal["max_steps", "in_doubt"] | None = None

    born: ClassVar[Callable[[], tuple[str, Instant]] | None] = None
    """Gives a new run id and the present time; set by `identity`, since this module has neither."""

    @classmethod
    def new(
        cls,
        *,
        workflow_id: str,
        entry_node: str,
        vars: Mapping[str, JsonValue] | None = None,
        actor_id: str | None = None,
        session_id: str | None = None,
        parent_run_id: str | None = None,
    ) -> RunState:
        """A running state at ``entry_node`` with a new id (uuid4) and the present time."""
        if cls.born is None:
            raise UsageError("no source of run ids and time", hint="import RunState from abstractruntime")
        run_id, now = cls.born()
        stamp = instant_text(now)
        return cls(
            run_id=run_id,
            workflow_id=workflow_id,
            status=RunStatus.RUNNING,
            current_node=entry_node,
            vars=dict(vars or {}),
            created_at=stamp,
            updated_at=stamp,
            actor_id=actor_id,
            session_id=session_id,
            parent_run_id=parent_run_id,
        )


@dataclass(frozen=True, slots=True)
class RunEvent:
    """What observers are told after a commit: the run went on by records of these ``kinds`` and has ``length`` now.

    Who must miss nothing keeps (run, length) and reads the ledger behind it.
    """

    run_id: str
    length: int
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LimitWarning:
    """A limit that is near or passed. ``pct``: 0–100 and above."""

    limit_type: Literal["iterations", "tokens", "history"]
    status: Literal["warning", "exceeded"]
    current: int
    maximum: int
    pct: float = 0.0

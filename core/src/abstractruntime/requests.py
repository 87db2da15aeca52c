"""What a drive asks its driver for, and what it is answered. Beside these it yields `Commit` and is sent the result."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .effects import EffectContext, EffectSpec
from .models import Effect, JsonDict, RunState


class Perform(Struct, frozen=True, kw_only=True):
    """Call ``spec.handler`` (or ``spec.reconcile``) with run, effect and context. Answer: `Performed`."""

    spec: EffectSpec
    run: RunState
    effect: Effect
    ctx: EffectContext
    hook: Literal["handler", "reconcile"] = "handler"


class Performed(Struct, frozen=True):
    """What the call returned, or what it raised."""

    returned: object = None
    raised: BaseException | None = None


class Claim(Struct, frozen=True):
    """Claim this run if it is due. Answer: its head, or None."""

    run_id: str
    owner: str


class LookInside(Struct, frozen=True):
    """Load the run behind ``after``. Answer: `StoredRun`."""

    run_id: str
    after: int


class Deliver(Struct, frozen=True):
    """Deliver a message to this run. Answer: None."""

    run_id: str
    message_id: str
    kind: str
    payload: JsonDict

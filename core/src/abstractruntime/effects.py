"""Effects: what a handler is, what it returns, and what happens to its effect when its process dies.

Two forms of handler are accepted:

- `EffectSpec`: ``handler(run, effect, ctx) -> EffectOutcome`` with its recovery class, time limit and `reconcile`.
- a bare callable ``handler(run, effect, default_next_node)`` or ``handler(run, effect)``: the form of 0.2; one whose
  third parameter is named ``ctx`` gets the context. Nobody said
  what may be repeated, so its recovery class is `Recovery.ASK` (the setting ``default_recovery`` lowers that).

A handler's ``run`` is a draft: what it changes in ``run.vars`` is recorded together with its outcome, and dropped if it
raises. ``effect.payload`` is a copy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, cast

from msgspec import Struct

from .errors import InvalidHandler
from .models import Effect, Instant, JsonValue, Recovery, RunState, StepStatus, WaitState, instant_text, plain_text

DEFAULT_TIMEOUT_S = 300.0

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "EffectContext",
    "EffectHandler",
    "EffectOutcome",
    "EffectSpec",
    "Reconciled",
    "Recovery",
    "bind_handlers",
]


class EffectOutcome(Struct, frozen=True):
    """What became of an effect. Made by `completed`, `waiting` and `failed`."""

    status: StepStatus
    result: JsonValue = None
    wait: WaitState | None = None
    error: str | None = None

    @classmethod
    def completed(cls, result: JsonValue = None) -> EffectOutcome:
        """Done; ``result`` is put at the effect's ``result_key``."""
        return cls(StepStatus.COMPLETED, result=result)

    @classmethod
    def waiting(cls, wait: WaitState) -> EffectOutcome:
        """The run parks until ``wait`` is answered; the answer is the effect's result."""
        return cls(StepStatus.WAITING, wait=wait)

    @classmethod
    def failed(cls, error: str) -> EffectOutcome:
        """It failed, for a reason a person can read. Raising an exception does the same and keeps the traceback."""
        return cls(StepStatus.FAILED, error=error)


class Reconciled(Struct, frozen=True):
    """What the other side says about an effect whose owner died. Made by `done`, `not_done` and `unknown`."""

    verdict: str
    result: JsonValue = None
    evidence: JsonValue = None

    @classmethod
    def done(cls, result: JsonValue = None) -> Reconciled:
        """It was done; ``result`` is what the handler would have returned."""
        return cls("done", result=result)

    @classmethod
    def not_done(cls) -> Reconciled:
        """It was not done and will not be by the dead owner: it is done now."""
        return cls("not_done")

    @classmethod
    def unknown(cls, evidence: JsonValue = None) -> Reconciled:
        """It cannot be told: the run parks in doubt with ``evidence``."""
        return cls("unknown", evidence=evidence)


class EffectContext(Struct, kw_only=True):
    """What a handler gets beside run and effect.

    ``step`` numbers the visits of nodes in the run; ``visit`` says the how-manieth visit of this node it is.
    ``key``: the idempotency key, the same for each attempt of this step and different for each step. ``attempt``: from
    1, one more after each failure and each take-over. ``epoch``: the fencing token; it grows each time the run changes
    hands. ``deadline``: the store's time by which the effect should have an outcome. ``default_next_node``: where the
    run goes on. ``cancelled()``: whether the outcome is no longer wanted (the run was cancelled, or its lease lost).
    """

    run_id: str
    step: int
    visit: int = 1
    key: str
    attempt: int
    epoch: int
    deadline: Instant
    default_next_node: str | None = None
    now: Instant = Instant(0)
    cancelled: Callable[[], bool] = lambda: False

    def now_iso(self) -> str:
        """The store's time when the handler was called, as ISO 8601 text."""
        return instant_text(self.now)


class EffectHandler(Protocol):
    """Acts. What it raises is the effect's failure; ``run`` is a draft, ``effect.payload`` a copy."""

    def __call__(self, run: RunState, effect: Effect, ctx: EffectContext, /) -> EffectOutcome: ...


class ReconcileHook(Protocol):
    """Asks the other side what became of an effect. It may take long; it must not change anything."""

    def __call__(self, run: RunState, effect: Effect, ctx: EffectContext, /) -> Reconciled: ...


RecoveryRule: TypeAlias = "Recovery | Callable[[Effect], Recovery]"


class EffectSpec(Struct, frozen=True, kw_only=True):
    """A handler and what is promised for it.

    ``recovery``: a class, or a function of the effect that gives one. ``timeout_s``: how long an outcome may take,
    counted from the decision, or a function of the effect that says; a take-over of an effect that may not be repeated
    waits that long first. ``costly``: its outcome is committed at once, not together with the next decision.
    ``reconcile``: required for `Recovery.RECONCILE`.
    """

    handler: EffectHandler
    recovery: RecoveryRule = Recovery.ASK
    timeout_s: float | Callable[[Effect], float] = DEFAULT_TIMEOUT_S
    costly: bool = False
    reconcile: ReconcileHook | None = None

    def __post_init__(self) -> None:
        if not callable(self.handler):
            raise InvalidHandler(f"an effect handler must be callable, not {type(self.handler).__name__}")
        if self.recovery == Recovery.RECONCILE and self.reconcile is None:
            raise InvalidHandler(
                "an effect with recovery 'reconcile' needs a reconcile hook",
                hint="EffectSpec(handler=…, recovery=Recovery.RECONCILE, reconcile=ask_the_other_side)",
            )
        if not callable(self.timeout_s) and not self.timeout_s > 0:
            raise InvalidHandler(f"timeout_s must be more than 0 seconds, not {self.timeout_s!r}")

    def recovery_of(self, effect: Effect) -> Recovery:
        """The class for this call: the effect's own word first, then the handler's."""
        if effect.recovery is not None:
            return Recovery(effect.recovery)
        return self.recovery(effect) if callable(self.recovery) else self.recovery

    def timeout_of(self, effect: Effect) -> float:
        """The time limit for this call, in seconds: the effect's own word first, then the handler's."""
        if effect.timeout_s is not None:
            return effect.timeout_s
        return self.timeout_s(effect) if callable(self.timeout_s) else self.timeout_s


HandlerLike: TypeAlias = "EffectSpec | Callable[..., EffectOutcome]"


def bind_handlers(
    handlers: Mapping[str, HandlerLike] | None, *, undeclared: Recovery = Recovery.ASK
) -> dict[str, EffectSpec]:
    """Each handler as an `EffectSpec`, looked at once, at registration. Raises `InvalidHandler` naming the type."""
    return {
        plain_text(effect_type): _bind(plain_text(effect_type), handler, undeclared)
        for effect_type, handler in (handlers or {}).items()
    }


def _bind(effect_type: str, handler: HandlerLike, undeclared: Recovery) -> EffectSpec:
    if isinstance(handler, EffectSpec):
        return handler
    if not callable(handler):
        raise InvalidHandler(
            f"the handler for effect {effect_type!r} must be callable or an EffectSpec, not {type(handler).__name__}",
            effect_type=effect_type,
        )
    return EffectSpec(handler=_seed_form(effect_type, handler), recovery=undeclared)


def _seed_form(effect_type: str, handler: Callable[..., EffectOutcome]) -> EffectHandler:
    """A handler of 0.2 as ours: it gets the default next node instead of a context, or nothing."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        parameters = None  # a C callable without a signature: the full form of 0.2 is meant
    if parameters is None or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        positional = 3
    else:
        positional = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
        named = {p.name for p in parameters}
        if positional == 3 and named & {"ctx", "context"}:
            return cast(EffectHandler, handler)  # the new form, only that nobody declared its recovery class
        if positional == 2 and "default_next_node" in named:
            return lambda run, effect, ctx: handler(run, effect, default_next_node=ctx.default_next_node)
    if positional >= 3:
        return lambda run, effect, ctx: handler(run, effect, ctx.default_next_node)
    if positional == 2:
        return lambda run, effect, ctx: handler(run, effect)
    raise InvalidHandler(
        f"the handler for effect {effect_type!r} takes {positional} positional arguments",
        hint="handler(run, effect, default_next_node), or EffectSpec(handler=…) with handler(run, effect, ctx)",
        effect_type=effect_type,
    )

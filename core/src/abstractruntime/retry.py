"""Retry policies: how often an effect is tried, how long one waits in between, and under which key.

A policy decides and does nothing itself: the engine makes a later attempt durable. Whether an effect has run already is
decided by its step alone; the idempotency key is what handlers and headers receive.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from .errors import InvalidValue, UsageError
from .models import Effect, EffectType, RunState

__all__ = [
    "DefaultEffectPolicy",
    "EffectPolicy",
    "NoRetryPolicy",
    "RetryPolicy",
    "compute_idempotency_key",
    "step_key",
]

_MAX_DOUBLINGS = 64


class EffectPolicy(Protocol):
    """What the engine asks of a policy, once per decision (the key) and once per failed attempt (the rest)."""

    def max_attempts(self, effect: Effect) -> int:
        """How often the effect is tried at most; 1 means no retry."""
        ...

    def backoff_seconds(self, *, effect: Effect, attempt: int) -> float:
        """How long to wait after the failure of ``attempt`` (from 1) before the next one, in seconds."""
        ...

    def idempotency_key(self, *, run: RunState, node_id: str, effect: Effect) -> str:
        """The key that every attempt of this step is made under. Asked once; the answer is kept in the ledger."""
        ...


@dataclass
class DefaultEffectPolicy:
    """One attempt for every type of effect but those in ``effect_max_attempts``; the wait doubles with each attempt.

    ``default_backoff_base``: seconds after the first failure; ``default_backoff_max``: seconds at most. Made to be
    subclassed, also by data classes.
    """

    default_max_attempts: int = 1
    default_backoff_base: float = 1.0
    default_backoff_max: float = 60.0
    effect_max_attempts: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        attempts = {"default_max_attempts": self.default_max_attempts, **(self.effect_max_attempts or {})}
        for name, count in attempts.items():
            if count < 1:
                raise UsageError(
                    f"{name}: an effect is tried at least once, not {count} times", hint="1 means no retry"
                )
        if self.default_backoff_base < 0 or self.default_backoff_max < 0:
            raise UsageError("a backoff is 0 seconds or more")
        # A copy under plain text keys: the caller's dict may change later, and 0.2 had `EffectType` keys as well.
        self.effect_max_attempts = {str(kind): count for kind, count in (self.effect_max_attempts or {}).items()}

    def max_attempts(self, effect: Effect) -> int:
        """As configured for the effect's type, else for all."""
        return (self.effect_max_attempts or {}).get(str(effect.type), self.default_max_attempts)

    def backoff_seconds(self, *, effect: Effect, attempt: int) -> float:
        """``default_backoff_base`` × 2^(attempt − 1), at most ``default_backoff_max``."""
        doublings = min(attempt - 1, _MAX_DOUBLINGS)
        return min(self.default_backoff_max, self.default_backoff_base * 2.0**doublings)

    def idempotency_key(self, *, run: RunState, node_id: str, effect: Effect) -> str:
        """Derived from the run and its step. A state that never was in a ledger has no step: its content decides."""
        if run.step:
            return step_key(run.run_id, run.step)
        return compute_idempotency_key(run_id=run.run_id, node_id=node_id, effect=effect)


class RetryPolicy(DefaultEffectPolicy):
    """Several attempts for LLM and tool calls, one for everything else; waits of 30 seconds at most."""

    def __init__(
        self,
        *,
        llm_max_attempts: int = 3,
        tool_max_attempts: int = 2,
        backoff_base: float = 1.0,
        backoff_max: float = 30.0,
    ) -> None:
        super().__init__(
            default_max_attempts=1,
            default_backoff_base=backoff_base,
            default_backoff_max=backoff_max,
            effect_max_attempts={EffectType.LLM_CALL: llm_max_attempts, EffectType.TOOL_CALLS: tool_max_attempts},
        )


class NoRetryPolicy(DefaultEffectPolicy):
    """One attempt for everything."""

    def __init__(self) -> None:
        super().__init__(default_max_attempts=1)


def step_key(run_id: str, step: int) -> str:
    """The idempotency key of a step: 32 hex digits, the same for all its attempts, another for each visit of a node."""
    return hashlib.sha256(f"{run_id}\0{step}".encode()).hexdigest()[:32]


def compute_idempotency_key(*, run_id: str, node_id: str, effect: Effect) -> str:
    """A key of 32 hex digits from what is asked for: run, node, and the effect's type, payload and ``result_key``.

    Two visits of one node that ask for the same have the same key, so it does not tell them apart; `step_key` does.
    Raises `InvalidValue` for a payload that is no JSON.
    """
    described = [run_id, node_id, str(effect.type), effect.payload, effect.result_key]
    try:
        canonical = json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        encoded = canonical.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(
            f"the payload of effect {str(effect.type)!r} at node {node_id!r} is no JSON: {error}",
            hint="put plain JSON values into the payload",
            path="payload",
            node_id=node_id,
        ) from error
    return hashlib.sha256(encoded).hexdigest()[:32]

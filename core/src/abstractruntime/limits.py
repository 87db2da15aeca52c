"""Limits of a run: iterations, tokens and history, how near they are, and what may be changed.

The limits stand in ``vars["_limits"]``, seeded from a `RuntimeConfig`; who counts writes ``current_iteration`` and
``estimated_tokens_used`` there. What is missing there, or is no number, counts as configured. All functions are pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from .errors import InvalidValue
from .models import JsonDict, JsonValue, LimitWarning
from .vars import CONTEXT, DEFAULT_LIMITS, LIMITS

__all__ = ["RuntimeConfig", "limit_status", "limit_warnings", "limits_update"]

_COUNTS = frozenset(("max_iterations", "current_iteration", "max_history_messages", "estimated_tokens_used"))
_TOKEN_MAXIMA = frozenset(("max_tokens", "max_output_tokens"))
_PERCENTAGES = frozenset(("warn_iterations_pct", "warn_tokens_pct"))

_Counted: TypeAlias = Literal["iterations", "tokens"]


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """Limits that new runs begin with.

    ``max_tokens`` None: what ``model_capabilities`` says, else 32,768. ``max_history_messages`` and any other maximum
    below 0: unlimited. ``warn_…_pct``: from which percentage of the maximum on there is a warning, 0 for never.
    """

    max_iterations: int = 25
    warn_iterations_pct: int = 80
    max_tokens: int | None = None
    max_output_tokens: int | None = None
    warn_tokens_pct: int = 80
    max_history_messages: int = -1
    model_capabilities: JsonDict = field(default_factory=dict)

    def to_limits_dict(self) -> JsonDict:
        """What ``vars["_limits"]`` of a new run holds: the maxima, the percentages, and counters at 0."""
        return {
            **DEFAULT_LIMITS,
            "max_iterations": self.max_iterations,
            "max_tokens": self.max_tokens or self.model_capabilities.get("max_tokens") or DEFAULT_LIMITS["max_tokens"],
            "max_output_tokens": self.max_output_tokens,
            "max_history_messages": self.max_history_messages,
            "warn_iterations_pct": self.warn_iterations_pct,
            "warn_tokens_pct": self.warn_tokens_pct,
        }

    def with_capabilities(self, capabilities: Mapping[str, JsonValue]) -> RuntimeConfig:
        """The same with ``capabilities`` in place of the model's capabilities."""
        return replace(self, model_capabilities=dict(capabilities))


@dataclass(frozen=True, slots=True)
class _Gauge:
    current: int
    maximum: int
    warn_pct: float

    @property
    def pct(self) -> float:
        return round(self.current / self.maximum * 100, 1) if self.maximum > 0 else 0

    @property
    def state(self) -> Literal["warning", "exceeded"] | None:
        if self.maximum <= 0:
            return None
        if self.current >= self.maximum:
            return "exceeded"
        # Compared before rounding: 79.99 % reads as 80.0 and is not yet a warning.
        near = self.warn_pct > 0 and self.current * 100 >= self.warn_pct * self.maximum
        return "warning" if near else None


def limit_status(vars: Mapping[str, JsonValue], config: RuntimeConfig) -> JsonDict:
    """How much of its limits a run has used.

    ``{"iterations": {"current", "max", "pct", "warning"}, "tokens": {"estimated_used", "max", "pct", "warning"},
    "history": {"max_messages"}}``; ``pct`` is 0–100 and above, with one digit, 0 where there is no maximum. Where the
    history has a maximum, ``history`` has ``current``, ``pct`` and ``warning`` too, counted over the list
    ``vars["context"]["messages"]``.
    """
    gauges = _gauges(vars, config)
    iterations, tokens, history = gauges["iterations"], gauges["tokens"], _history(vars, config)
    status: JsonDict = {
        "iterations": {
            "current": iterations.current,
            "max": iterations.maximum,
            "pct": iterations.pct,
            "warning": iterations.state is not None,
        },
        "tokens": {
            "estimated_used": tokens.current,
            "max": tokens.maximum,
            "pct": tokens.pct,
            "warning": tokens.state is not None,
        },
        "history": {"max_messages": history.maximum},
    }
    if history.maximum > 0:
        status["history"] = {
            "max_messages": history.maximum,
            "current": history.current,
            "pct": history.pct,
            "warning": history.current > history.maximum,
        }
    return status


def limit_warnings(vars: Mapping[str, JsonValue], config: RuntimeConfig) -> list[LimitWarning]:
    """The limits that are near (``warning``) or reached (``exceeded``): iterations, tokens, history, in this order.

    A history at its maximum is a full window, as it should be: only a longer one is ``exceeded``.
    """
    return list(_warnings(vars, config))


def _warnings(vars: Mapping[str, JsonValue], config: RuntimeConfig) -> Iterator[LimitWarning]:
    for limit_type, gauge in _gauges(vars, config).items():
        if gauge.state is not None:
            yield LimitWarning(limit_type, gauge.state, gauge.current, gauge.maximum, gauge.pct)
    history = _history(vars, config)
    if 0 < history.maximum < history.current:
        yield LimitWarning("history", "exceeded", history.current, history.maximum, history.pct)


def limits_update(vars_limits: Mapping[str, JsonValue], updates: Mapping[str, JsonValue]) -> JsonDict:
    """The part of ``updates`` that may be written into ``_limits`` and changes it.

    Unknown keys are ignored. Counters and maxima are whole numbers, percentages numbers; None for ``max_tokens`` and
    ``max_output_tokens`` means what is configured. Raises `InvalidValue` naming the path of any other value.
    """
    known = {key: value for key, value in updates.items() if key in _COUNTS | _TOKEN_MAXIMA | _PERCENTAGES}
    for key, value in known.items():
        _check_limit(key, value)
    return {key: value for key, value in known.items() if key not in vars_limits or not _same(vars_limits[key], value)}


def _check_limit(key: str, value: JsonValue) -> None:
    if value is None and key in _TOKEN_MAXIMA:
        return
    if _is_number(value) and (key in _PERCENTAGES or isinstance(value, int)):
        return
    wanted = "a number" if key in _PERCENTAGES else "a whole number"
    path = f"vars.{LIMITS}.{key}"
    raise InvalidValue(f"{path} must be {wanted}, not {value!r}", path=path, value=repr(value))


def _same(old: JsonValue, new: JsonValue) -> bool:
    return type(old) is type(new) and old == new


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _gauges(vars: Mapping[str, JsonValue], config: RuntimeConfig) -> dict[_Counted, _Gauge]:
    limits, configured = _limits_of(vars), config.to_limits_dict()
    return {
        "iterations": _Gauge(
            current=_counter(limits, "current_iteration"),
            maximum=_maximum(limits, configured, "max_iterations"),
            warn_pct=_percentage(limits, configured, "warn_iterations_pct"),
        ),
        "tokens": _Gauge(
            current=_counter(limits, "estimated_tokens_used"),
            maximum=_maximum(limits, configured, "max_tokens"),
            warn_pct=_percentage(limits, configured, "warn_tokens_pct"),
        ),
    }


def _history(vars: Mapping[str, JsonValue], config: RuntimeConfig) -> _Gauge:
    maximum = _limits_of(vars).get("max_history_messages")
    if not isinstance(maximum, int) or isinstance(maximum, bool):
        maximum = config.max_history_messages
    context = vars.get(CONTEXT)
    messages = context.get("messages") if isinstance(context, dict) else None
    return _Gauge(current=len(messages) if isinstance(messages, list) else 0, maximum=maximum, warn_pct=0)


def _limits_of(vars: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    limits = vars.get(LIMITS)
    return limits if isinstance(limits, dict) else {}


def _counter(limits: Mapping[str, JsonValue], key: str) -> int:
    value = limits.get(key)
    return int(value) if isinstance(value, int | float) and _is_number(value) else 0


def _maximum(limits: Mapping[str, JsonValue], configured: Mapping[str, JsonValue], key: str) -> int:
    # 0 is "not said", as in 0.2: a run that may do nothing at all is of no use.
    for value in (limits.get(key), configured.get(key), DEFAULT_LIMITS[key]):
        if isinstance(value, int | float) and _is_number(value) and value != 0:
            return int(value)
    raise AssertionError(f"no default for {key}")


def _percentage(limits: Mapping[str, JsonValue], configured: Mapping[str, JsonValue], key: str) -> float:
    for value in (limits.get(key), configured.get(key)):
        if isinstance(value, int | float) and _is_number(value):
            return value
    return 0

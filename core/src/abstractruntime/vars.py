"""The namespaces of a run's ``vars``: a convention with helpers.

``context`` is user-facing, ``scratchpad`` is working memory, ``_runtime`` belongs to the host, ``_temp`` lives from
step to step, ``_limits`` holds the run's limits and counters. Each helper returns the namespace that stands in ``vars``
itself, so a change to it is a change of the run; what stands there and is no dict is replaced by an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .models import JsonDict, JsonValue

__all__ = [
    "CONTEXT",
    "DEFAULT_LIMITS",
    "LIMITS",
    "RUNTIME",
    "SCRATCHPAD",
    "TEMP",
    "clear_temp",
    "ensure_limits",
    "ensure_namespaces",
    "get_context",
    "get_limits",
    "get_namespace",
    "get_runtime",
    "get_scratchpad",
    "get_temp",
]

CONTEXT = "context"
SCRATCHPAD = "scratchpad"
RUNTIME = "_runtime"
TEMP = "_temp"
LIMITS = "_limits"

_NAMESPACES = (CONTEXT, SCRATCHPAD, RUNTIME, TEMP)

DEFAULT_LIMITS: Mapping[str, JsonValue] = MappingProxyType(
    {
        "max_iterations": 25,
        "current_iteration": 0,
        "max_tokens": 32768,
        "max_output_tokens": None,
        "estimated_tokens_used": 0,
        "max_history_messages": -1,
        "warn_iterations_pct": 80,
        "warn_tokens_pct": 80,
    }
)
"""What ``_limits`` holds where nobody configured anything."""


def ensure_namespaces(vars: JsonDict) -> JsonDict:
    """Make ``context``, ``scratchpad``, ``_runtime`` and ``_temp`` where they are missing; returns ``vars`` itself."""
    for key in _NAMESPACES:
        _namespace(vars, key)
    return vars


def get_namespace(vars: JsonDict, key: str) -> JsonDict:
    """One of the four namespaces, all of them made where missing. Raises KeyError for a ``key`` that names nothing."""
    ensure_namespaces(vars)
    return _namespace(vars, key) if key in _NAMESPACES else _existing(vars, key)


def get_context(vars: JsonDict) -> JsonDict:
    """What the user sees: the task, the messages, the answers."""
    return get_namespace(vars, CONTEXT)


def get_scratchpad(vars: JsonDict) -> JsonDict:
    """Working memory of the workflow."""
    return get_namespace(vars, SCRATCHPAD)


def get_runtime(vars: JsonDict) -> JsonDict:
    """What the host manages: tool definitions, settings of this run."""
    return get_namespace(vars, RUNTIME)


def get_temp(vars: JsonDict) -> JsonDict:
    """What one step leaves for the next."""
    return get_namespace(vars, TEMP)


def clear_temp(vars: JsonDict) -> None:
    """Empty ``_temp``."""
    get_temp(vars).clear()


def ensure_limits(vars: JsonDict) -> JsonDict:
    """``_limits``, made with the default limits where it is missing or no dict. One that is there stays as it is."""
    if not isinstance(vars.get(LIMITS), dict):
        vars[LIMITS] = dict(DEFAULT_LIMITS)
    return _namespace(vars, LIMITS)


def get_limits(vars: JsonDict) -> JsonDict:
    """The same as `ensure_limits`."""
    return ensure_limits(vars)


def _namespace(vars: JsonDict, key: str) -> JsonDict:
    if not isinstance(vars.get(key), dict):
        vars[key] = {}
    # Read back, not the dict just put in: a node's ``vars`` is a draft that hands out containers of its own.
    return _existing(vars, key)


def _existing(vars: JsonDict, key: str) -> JsonDict:
    found = vars[key]
    if not isinstance(found, dict):
        raise KeyError(key)
    return found

"""Executors: the functions of a host as tools, and tools that somebody else runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, runtime_checkable

from msgspec import structs

from ..errors import InvalidHandler
from ..models import JsonDict, JsonValue, Recovery
from .calls import read_tool_calls
from .tools import Tool, ToolContext, perform, tool_of

EXECUTED = "executed"


@runtime_checkable
class ToolExecutor(Protocol):
    """Carries out a whole list of calls: the form of 0.2.

    It does not say which tools it has, so each of its calls counts as undeclared; an executor that has an attribute
    ``recovery`` (a `Recovery`) says it for all of them. New code gives a `ToolSource`.
    """

    def execute(self, *, tool_calls: list[JsonDict]) -> JsonDict:
        """``{"mode": "executed", "results": [{call_id, name, success, output, error}, …]}``, in the order of the calls.

        Any other ``mode`` means that nothing was executed: the run waits until the host resumes it with the results.
        """
        ...


class MappingToolExecutor:
    """Functions as tools, by name. They stay in the process: no callable ever enters a run's state."""

    def __init__(self, tool_map: Mapping[str, Callable[..., object] | Tool]) -> None:
        self._tools = {name: _as_tool(name, function) for name, function in tool_map.items()}

    @classmethod
    def from_tools(cls, tools: Iterable[Callable[..., object] | Tool]) -> MappingToolExecutor:
        """Each function under its own name, or the one it declares. Raises `InvalidHandler` for two of one name."""
        found: dict[str, Tool] = {}
        for function in tools:
            one = function if isinstance(function, Tool) else _declared_elsewhere(function)
            if one.name in found:
                raise InvalidHandler(
                    f"two tools are named {one.name!r}", hint="give one of them another name", tool=one.name
                )
            found[one.name] = one
        return cls(found)

    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._tools.values())

    def definitions(self) -> list[JsonDict]:
        """The tools as models are told about them, for the ``tools`` of an `llm_call` payload."""
        return [tool.definition() for tool in self._tools.values()]

    def execute(self, *, tool_calls: list[JsonDict]) -> JsonDict:
        """Carry out calls outside of a run, so without an idempotency key. See `ToolExecutor`."""
        calls = read_tool_calls([*tool_calls])
        contexts = [ToolContext(run_id="", key="", call_id=call.call_id) for call in calls]
        results: list[JsonValue] = [perform(self._tools, call, ctx) for call, ctx in zip(calls, contexts, strict=True)]
        return {"mode": EXECUTED, "results": results}

    def __repr__(self) -> str:
        return f"MappingToolExecutor({', '.join(self._tools)})"


def _as_tool(name: str, function: Callable[..., object] | Tool) -> Tool:
    return structs.replace(function, name=name) if isinstance(function, Tool) else tool_of(function, name=name)


def _declared_elsewhere(function: Callable[..., object]) -> Tool:
    """A function as a tool; AbstractCore's own decorator leaves name and function in ``_tool_definition``."""
    definition = getattr(function, "_tool_definition", None)
    if definition is None:
        return tool_of(function)
    inner = getattr(definition, "function", None) or function
    return tool_of(inner, name=str(getattr(definition, "name", "") or "") or None)


class PassthroughToolExecutor:
    """Runs nothing: the run waits until the host resumes it with the results of the calls in the wait's ``details``."""

    recovery = Recovery.PURE

    def __init__(self, *, mode: str = "passthrough") -> None:
        if mode == EXECUTED:
            raise InvalidHandler(
                f"mode {EXECUTED!r} would say that the calls were made", hint="use any other word", mode=mode
            )
        self._mode = mode

    def execute(self, *, tool_calls: list[JsonDict]) -> JsonDict:
        return {"mode": self._mode, "tool_calls": [*tool_calls]}

    def __repr__(self) -> str:
        return f"PassthroughToolExecutor(mode={self._mode!r})"

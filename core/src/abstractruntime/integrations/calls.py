"""Tool calls as models write them: two shapes in, one out."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ..errors import InvalidPayload
from ..models import JsonDict, JsonValue

_SHOWN = 80


class ToolCall(Struct, frozen=True, kw_only=True):
    """One call of one tool.

    ``arguments``: by name. ``problem``: why the call cannot be made as the model wrote it (arguments that are no JSON
    object, no name), None for a good one; ``given`` is then what stood in place of the arguments.
    """

    name: str
    arguments: JsonDict
    call_id: str = ""
    problem: str | None = None
    given: JsonValue = None

    def as_json(self) -> JsonDict:
        """``{"name", "arguments", "call_id"}``; arguments that could not be read stay as they were given."""
        arguments = self.arguments if self.problem is None else self.given
        return {"name": self.name, "arguments": arguments, "call_id": self.call_id}


def read_tool_calls(raw: JsonValue) -> list[ToolCall]:
    """The calls of a list, in its order: ``{name, arguments, call_id}`` or ``{id, function: {name, arguments}}`` each.

    In both shapes arguments may be an object, JSON text of one, or missing. What a model can get wrong (no name,
    arguments that are no object) is the ``problem`` of its call, to be answered with a failed result. Raises
    `InvalidPayload` for what only a program gets wrong: no list, or an entry that is no object.
    """
    if not isinstance(raw, list):
        raise InvalidPayload(
            f"tool_calls must be a list, not {_kind(raw)}",
            hint='payload={"tool_calls": [{"name": "…", "arguments": {…}, "call_id": "…"}]}',
        )
    return [_read(index, entry) for index, entry in enumerate(raw)]


def _read(index: int, entry: JsonValue) -> ToolCall:
    if not isinstance(entry, dict):
        raise InvalidPayload(
            f"tool_calls[{index}] must be an object, not {_kind(entry)}",
            hint="give {name, arguments, call_id} or {id, function: {name, arguments}}",
            path=f"tool_calls[{index}]",
        )
    function = entry.get("function")
    inner = function if isinstance(function, dict) else entry
    name = inner.get("name")
    given_id = entry.get("call_id") or entry.get("id")
    call_id = "" if given_id is None else str(given_id)
    return _checked(name if isinstance(name, str) else "", inner.get("arguments"), call_id)


def _checked(name: str, given: JsonValue, call_id: str) -> ToolCall:
    if not name:
        return ToolCall(name="", arguments={}, call_id=call_id, problem="the call names no tool", given=given)
    arguments = _arguments(given)
    if arguments is None:
        problem = f"the arguments are no JSON object: {_excerpt(given)}"
        return ToolCall(name=name, arguments={}, call_id=call_id, problem=problem, given=given)
    return ToolCall(name=name, arguments=arguments, call_id=call_id)


def _arguments(given: JsonValue) -> JsonDict | None:
    if given is None or given == "":
        return {}
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
    return given if isinstance(given, dict) else None


def _excerpt(given: JsonValue) -> str:
    text = repr(given)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _kind(value: JsonValue) -> str:
    return "missing" if value is None else type(value).__name__

"""Tools: what a model may call, what is promised for each, and how a Python function becomes one."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Protocol, TypeVar, get_type_hints, overload, runtime_checkable

import msgspec
from msgspec import Struct

from ..codec.values import plain
from ..effects import DEFAULT_TIMEOUT_S, Reconciled
from ..errors import InvalidHandler, InvalidPayload
from ..models import JsonDict, JsonValue, Recovery
from .calls import ToolCall

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., object])

_DECLARATION = "__abstractruntime_tool__"


class ToolContext(Struct, frozen=True, kw_only=True):
    """What a tool gets beside its arguments, if it has a parameter annotated `ToolContext`.

    ``key``: the idempotency key of this one call: the same for each attempt, another for each call. ``attempt``: from
    1. ``epoch``: the fencing token of the run. ``timeout_s``: how long the call may take. ``cancelled()``: whether the
    outcome is no longer wanted.
    """

    run_id: str
    key: str
    call_id: str = ""
    attempt: int = 1
    epoch: int = 0
    timeout_s: float = DEFAULT_TIMEOUT_S
    cancelled: Callable[[], bool] = lambda: False


def _no_parameters() -> JsonDict:
    return {"type": "object", "properties": {}}


class Tool(Struct, frozen=True, kw_only=True):
    """One tool.

    ``call(arguments, ctx)`` returns a JSON value, or something made of dataclasses and such (see `output_of`).
    ``parameters``: the JSON Schema of the arguments. ``recovery``: what is done with a call whose process died in it;
    None means that nobody declared it. ``timeout_s`` is told to the tool, which keeps to it; nothing can stop a Python
    function from outside. ``reconcile(arguments, ctx)`` says whether a call was made, required for
    `Recovery.RECONCILE`.
    """

    name: str
    call: Callable[[JsonDict, ToolContext], object]
    description: str = ""
    parameters: JsonDict = msgspec.field(default_factory=_no_parameters)
    recovery: Recovery | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    reconcile: Callable[[JsonDict, ToolContext], Reconciled] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidHandler("a tool needs a name", hint="give name=, or a function that has one")
        if self.recovery == Recovery.RECONCILE and self.reconcile is None:
            raise InvalidHandler(
                f"tool {self.name!r} has recovery 'reconcile' and no reconcile function",
                hint="reconcile= takes the tool's arguments, returns Reconciled.done(…), .not_done() or .unknown(…)",
                tool=self.name,
            )
        if not self.timeout_s > 0:
            raise InvalidHandler(
                f"tool {self.name!r}: timeout_s must be more than 0 seconds, not {self.timeout_s!r}", tool=self.name
            )

    def definition(self) -> JsonDict:
        """The tool as models are told about it, for the ``tools`` of an `llm_call` payload."""
        function: JsonDict = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


@runtime_checkable
class ToolSource(Protocol):
    """Has tools. Asked anew for each effect, so a source may change what it has."""

    def tools(self) -> Sequence[Tool]:
        """The tools there are now, each name once."""
        ...


class _Declaration(Struct, frozen=True, kw_only=True):
    name: str | None
    description: str | None
    recovery: Recovery | None
    timeout_s: float
    reconcile: Callable[..., Reconciled] | None


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    recovery: Recovery | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    reconcile: Callable[..., Reconciled] | None = None,
) -> Callable[[F], F]: ...
def tool(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    recovery: Recovery | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    reconcile: Callable[..., Reconciled] | None = None,
) -> F | Callable[[F], F]:
    """Declare what is promised for a function as a tool: ``@tool(recovery=Recovery.READ)``.

    The function stays as it is and can be called as before. ``name`` and ``description`` default to its name and the
    first paragraph of its docstring; ``reconcile`` takes the same arguments as the function. Raises `InvalidHandler`
    for a function that cannot be a tool, where it is declared.
    """

    def declare(function: F) -> F:
        declaration = _Declaration(
            name=name, description=description, recovery=recovery, timeout_s=timeout_s, reconcile=reconcile
        )
        setattr(function, _DECLARATION, declaration)
        tool_of(function)
        return function

    return declare if function is None else declare(function)


_UNDECLARED = _Declaration(name=None, description=None, recovery=None, timeout_s=DEFAULT_TIMEOUT_S, reconcile=None)


def tool_of(function: Callable[..., object], *, name: str | None = None) -> Tool:
    """A function as a tool, with what `tool` declared for it. ``name`` None: the declared or the function's own.

    The schema of its parameters comes from their annotations; a parameter annotated `ToolContext` is no argument of the
    model. Arguments are handed over as the JSON values they are. Raises `InvalidHandler`.
    """
    found = getattr(function, _DECLARATION, None)
    declared = found if isinstance(found, _Declaration) else _UNDECLARED
    name = name or declared.name or str(getattr(function, "__name__", ""))
    if not callable(function):
        raise InvalidHandler(f"tool {name!r} is a {type(function).__name__}, which cannot be called", tool=name)
    if inspect.iscoroutinefunction(function):
        raise InvalidHandler(
            f"tool {name!r} is async, and tools are called synchronously", hint="wrap it: asyncio.run(…)", tool=name
        )
    parameters = _Parameters(name, function)
    asked = declared.reconcile
    reconcile = None if asked is None else _Parameters(name, asked).caller(asked)
    return Tool(
        name=name,
        call=parameters.caller(function),
        description=_first_paragraph(function) if declared.description is None else declared.description,
        parameters=parameters.schema(),
        recovery=declared.recovery,
        timeout_s=declared.timeout_s,
        reconcile=reconcile,
    )


_R = TypeVar("_R")


class _Parameters:
    """What a function takes, looked at once."""

    def __init__(self, tool: str, function: Callable[..., object]) -> None:
        self._tool = tool
        self._signature = _signature(function)
        self._hints = _hints(function)
        parameters = self._signature.parameters.values() if self._signature else ()
        self._named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self._open = self._signature is None or any(p.kind is p.VAR_KEYWORD for p in parameters)
        for parameter in parameters:
            if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
                raise InvalidHandler(
                    f"tool {tool!r}: parameter {parameter.name!r} is positional-only, and models name their arguments",
                    tool=tool,
                )
        contexts = [p for p in self._named if self._is_context(p)]
        self._context = contexts[0].name if contexts else None

    def _is_context(self, parameter: inspect.Parameter) -> bool:
        hint = self._hints.get(parameter.name, parameter.annotation)
        # Text, where the annotations of the function could not be resolved.
        return hint is ToolContext or (isinstance(hint, str) and hint.rpartition(".")[2] == ToolContext.__name__)

    def caller(self, function: Callable[..., _R]) -> Callable[[JsonDict, ToolContext], _R]:
        """The function over ``(arguments, ctx)``; raises `InvalidPayload` for arguments that it does not take."""

        def call(arguments: JsonDict, ctx: ToolContext) -> _R:
            if self._context in arguments:
                raise InvalidPayload(f"got an unexpected argument {self._context!r}", tool=self._tool)
            given: dict[str, object] = {**arguments} if self._context is None else {**arguments, self._context: ctx}
            if self._signature is not None:
                try:
                    self._signature.bind(**given)
                except TypeError as error:
                    raise InvalidPayload(str(error), tool=self._tool) from None
            return function(**given)

        return call

    def schema(self) -> JsonDict:
        components: JsonDict = {}
        properties: JsonDict = {}
        required: list[JsonValue] = []
        for parameter in self._named:
            if parameter.name == self._context:
                continue
            properties[parameter.name] = self._schema_of(parameter, components)
            if parameter.default is parameter.empty:
                required.append(parameter.name)
        schema: JsonDict = {"type": "object", "properties": properties}
        if required:
            schema["required"] = required
        if not self._open:
            schema["additionalProperties"] = False
        if components:
            schema["$defs"] = components
        return schema

    def _schema_of(self, parameter: inspect.Parameter, components: JsonDict) -> JsonDict:
        schema: JsonDict = {}  # any value: what an annotation that is missing, or of no JSON type, says
        if parameter.name in self._hints:
            with suppress(TypeError, ValueError):
                (schema,), found = msgspec.json.schema_components(
                    (self._hints[parameter.name],), ref_template="#/$defs/{name}"
                )
                components |= found
        default = parameter.default
        has_default = isinstance(default, str | int) or (isinstance(default, float) and isfinite(default))
        return {**schema, "default": default} if has_default else schema


def _signature(function: Callable[..., object]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None  # a C callable that does not say


def _hints(function: Callable[..., object]) -> dict[str, object]:
    try:
        return get_type_hints(function, include_extras=True)
    except (AttributeError, NameError, TypeError):
        return {}  # names that only a type checker knows, or nothing to look at


def _first_paragraph(function: Callable[..., object]) -> str:
    text = inspect.getdoc(function) if hasattr(function, "__name__") else None
    return " ".join((text or "").partition("\n\n")[0].split())


def perform(tools: Mapping[str, Tool], call: ToolCall, ctx: ToolContext) -> JsonDict:
    """Make one call: ``{call_id, name, success, output, error}``. Whatever goes wrong in it is its failed result."""
    if call.problem is not None:
        return failed_result(call, call.problem)
    found = tools.get(call.name)
    if found is None:
        return failed_result(call, f"there is no tool {call.name!r}; there are: {', '.join(sorted(tools)) or 'none'}")
    try:
        output = found.call(call.arguments, ctx)
    except InvalidPayload as error:
        return failed_result(call, error.message)
    except Exception as error:  # what a tool raises is an answer to the model, not the end of the run
        log.warning("tool %r failed: %s", call.name, error, exc_info=True)
        return failed_result(call, f"{type(error).__name__}: {error}")
    try:
        return succeeded_result(call, output_of(output))
    except Exception as error:  # a value that somebody's own code refuses to show; the call itself was made
        log.warning("tool %r returned no JSON value: %s", call.name, error, exc_info=True)
        return failed_result(call, f"the tool did its work, but what it returned is no JSON value: {error}")


def succeeded_result(call: ToolCall, output: JsonValue) -> JsonDict:
    """The result of a call that was made."""
    return {"call_id": call.call_id, "name": call.name, "success": True, "output": output, "error": None}


def failed_result(call: ToolCall, error: str) -> JsonDict:
    """The result of a call that was not made, or raised."""
    return {"call_id": call.call_id, "name": call.name, "success": False, "output": None, "error": error}


def output_of(value: object) -> JsonValue:
    """What a tool returned as a JSON value: dataclasses, msgspec Structs and pydantic models become objects.

    Raises `InvalidValue` naming the path of anything else that JSON does not have.
    """
    return plain(_opened(value), "output")


def _opened(value: object) -> object:
    if isinstance(value, dict):
        return {key: _opened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_opened(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _opened(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Struct):
        return {name: _opened(getattr(value, name)) for name in value.__struct_fields__}
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    return value

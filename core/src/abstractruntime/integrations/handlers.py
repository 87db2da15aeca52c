"""The `tool_calls` effect, and both handlers as a dict."""

from __future__ import annotations

from collections.abc import Mapping

from ..effects import DEFAULT_TIMEOUT_S, EffectContext, EffectOutcome, EffectSpec, Reconciled
from ..errors import FatalError, InvalidHandler
from ..models import Effect, EffectType, JsonDict, JsonValue, Recovery, RunState, WaitReason, WaitState
from ..waits import default_key
from .calls import ToolCall, read_tool_calls
from .executors import EXECUTED, ToolExecutor
from .llm import LLMClient, make_llm_call_handler
from .spec import CallableSpec
from .tools import Tool, ToolContext, ToolSource, failed_result, perform, succeeded_result

_WEAKEST_LAST = (Recovery.PURE, Recovery.READ, Recovery.IDEMPOTENT, Recovery.RECONCILE, Recovery.ASK)


def build_effect_handlers(
    *,
    llm: LLMClient | None = None,
    tools: ToolSource | ToolExecutor | None = None,
    undeclared: Recovery = Recovery.ASK,
) -> dict[str, EffectSpec]:
    """Handlers for what is given: `llm_call` with ``llm``, `tool_calls` with ``tools``."""
    handlers: dict[str, EffectSpec] = {}
    if llm is not None:
        handlers[EffectType.LLM_CALL] = make_llm_call_handler(llm)
    if tools is not None:
        handlers[EffectType.TOOL_CALLS] = make_tool_calls_handler(tools, undeclared=undeclared)
    return handlers


def make_tool_calls_handler(
    tools: ToolSource | ToolExecutor | None = None, *, undeclared: Recovery = Recovery.ASK
) -> CallableSpec:
    """The handler of `tool_calls` over a source of tools, or over an executor of 0.2.

    Payload: ``{"tool_calls": [...]}`` in either shape of `read_tool_calls`. Result: ``{"mode": "executed", "results":
    [{call_id, name, success, output, error}, …]}`` in the order of the calls; a tool that is unknown, raises or returns
    no JSON value is a failed result, not a failed run. Recovery: the weakest class among the tools called, where
    ``undeclared`` stands for those that declare none and for unknown ones. With None each such effect fails.
    """
    if tools is None:
        return CallableSpec(handler=_without_tools, recovery=Recovery.PURE)
    if isinstance(tools, ToolSource):
        return _SourceCalls(tools, undeclared).spec()
    if isinstance(tools, ToolExecutor):
        return _executor_spec(tools, undeclared)
    raise InvalidHandler(
        f"{type(tools).__name__} is neither a ToolSource (has tools()) nor a ToolExecutor (has execute())",
        hint="wrap functions: MappingToolExecutor.from_tools([…])",
    )


def _without_tools(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
    raise FatalError(
        "tool_calls: no tools are configured",
        hint="MappingToolExecutor.from_tools([…]) for functions, PassthroughToolExecutor() for the host to run them",
    )


class _SourceCalls:
    def __init__(self, source: ToolSource, undeclared: Recovery) -> None:
        self._source = source
        self._undeclared = undeclared
        self._tools()  # two tools of one name are an error now, not in the middle of a run

    def spec(self) -> CallableSpec:
        return CallableSpec(handler=self.perform, recovery=self.recovery, reconcile=self.reconcile)

    def _tools(self) -> dict[str, Tool]:
        tools: dict[str, Tool] = {}
        for tool in self._source.tools():
            if tool.name in tools:
                raise InvalidHandler(f"{self._source!r} has two tools named {tool.name!r}", tool=tool.name)
            tools[tool.name] = tool
        return tools

    def recovery(self, effect: Effect) -> Recovery:
        raw = effect.payload.get("tool_calls")
        if not isinstance(raw, list) or not all(isinstance(entry, dict) for entry in raw):
            return Recovery.PURE  # nothing of it will be carried out
        tools = self._tools()
        classes = [self._recovery_of(tools.get(call.name)) for call in read_tool_calls(raw) if call.problem is None]
        return max(classes, key=_WEAKEST_LAST.index, default=Recovery.PURE)

    def _recovery_of(self, tool: Tool | None) -> Recovery:
        # A tool unknown here may be known to the process that takes over.
        return self._undeclared if tool is None or tool.recovery is None else tool.recovery

    def perform(self, run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        tools = self._tools()
        results: list[JsonValue] = []
        for index, call in enumerate(read_tool_calls(effect.payload.get("tool_calls"))):
            if ctx.cancelled():
                results.append(failed_result(call, "not started: the run was cancelled, or taken over"))
            else:
                results.append(perform(tools, call, _tool_context(ctx, tools, index, call)))
        return EffectOutcome.completed({"mode": EXECUTED, "results": results})

    def reconcile(self, run: RunState, effect: Effect, ctx: EffectContext) -> Reconciled:
        """What the tools' own `reconcile` functions say, put together.

        One that cannot tell makes the whole unknown. If none was done, the effect is performed as if for the first
        time. Else the rest is done here, since the handler would repeat what was done.
        """
        tools = self._tools()
        calls = read_tool_calls(effect.payload.get("tool_calls"))
        contexts = [_tool_context(ctx, tools, index, call) for index, call in enumerate(calls)]
        verdicts = [
            self._verdict(tools.get(call.name), call, context) for call, context in zip(calls, contexts, strict=True)
        ]
        evidence: list[JsonValue] = [
            {**call.as_json(), "verdict": verdict.verdict, "evidence": verdict.evidence}
            for call, verdict in zip(calls, verdicts, strict=True)
        ]
        if any(verdict.verdict == "unknown" for verdict in verdicts):
            return Reconciled.unknown({"tool_calls": evidence})
        if not any(verdict.verdict == "done" for verdict in verdicts):
            return Reconciled.not_done()
        results: list[JsonValue] = [
            succeeded_result(call, verdict.result) if verdict.verdict == "done" else perform(tools, call, context)
            for call, verdict, context in zip(calls, verdicts, contexts, strict=True)
        ]
        return Reconciled.done({"mode": EXECUTED, "results": results})

    def _verdict(self, tool: Tool | None, call: ToolCall, ctx: ToolContext) -> Reconciled:
        if call.problem is not None or self._recovery_of(tool).repeatable:
            return Reconciled.not_done()
        if tool is None or tool.reconcile is None:
            return Reconciled.unknown(f"tool {call.name!r} has no reconcile function")
        return tool.reconcile(call.arguments, ctx)


def _tool_context(ctx: EffectContext, tools: Mapping[str, Tool], index: int, call: ToolCall) -> ToolContext:
    tool = tools.get(call.name)
    return ToolContext(
        run_id=ctx.run_id,
        # By position: models give two calls the same id, or none.
        key=f"{ctx.key}:{index}",
        call_id=call.call_id,
        attempt=ctx.attempt,
        epoch=ctx.epoch,
        timeout_s=DEFAULT_TIMEOUT_S if tool is None else tool.timeout_s,
        cancelled=ctx.cancelled,
    )


def _executor_spec(executor: ToolExecutor, undeclared: Recovery) -> CallableSpec:
    def execute(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        calls = [call.as_json() for call in read_tool_calls(effect.payload.get("tool_calls"))]
        result = executor.execute(tool_calls=calls)
        if not isinstance(result, dict):
            raise FatalError(
                f"{type(executor).__name__}.execute returned {type(result).__name__}, not a dict",
                hint='a ToolExecutor returns {"mode": "executed", "results": [...]}',
            )
        mode = result.get("mode")
        if not mode or mode == EXECUTED:
            return EffectOutcome.completed(result)
        return EffectOutcome.waiting(_wait_for_host(run, effect, ctx, mode, calls))

    declared = getattr(executor, "recovery", None)
    return CallableSpec(handler=execute, recovery=Recovery(declared) if declared is not None else undeclared)


def _wait_for_host(
    run: RunState, effect: Effect, ctx: EffectContext, mode: JsonValue, calls: list[JsonDict]
) -> WaitState:
    return WaitState(
        reason=WaitReason.EVENT,
        wait_key=_text(effect.payload.get("wait_key")) or default_key("tool_calls", run.run_id, run.current_node, ctx),
        resume_to_node=_text(effect.payload.get("resume_to_node")) or ctx.default_next_node,
        result_key=effect.result_key,
        details={"mode": mode, "tool_calls": [*calls]},
    )


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None

"""The `tool_calls` handler and its tools: shapes of calls, results, recovery, and how functions become tools."""

import asyncio
import functools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Literal

import msgspec
import pytest

from abstractruntime import Effect, EffectOutcome, Recovery, RunState, StepStatus, WaitReason
from abstractruntime.effects import EffectContext, Reconciled, bind_handlers
from abstractruntime.errors import FatalError, InvalidHandler, InvalidPayload
from abstractruntime.integrations import (
    MappingToolExecutor,
    PassthroughToolExecutor,
    Tool,
    ToolContext,
    build_effect_handlers,
    make_tool_calls_handler,
    read_tool_calls,
    tool,
)
from abstractruntime.models import Instant


def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Not for money.
    """
    return a + b


def fail():
    raise LookupError("no such thing")


def a_run():
    return RunState.new(workflow_id="w", entry_node="act")


def a_context(**fields):
    known = {"run_id": "r1", "step": 4, "key": "key-4", "attempt": 2, "epoch": 7, "deadline": Instant(0)}
    return EffectContext(**(known | fields))


def an_effect(*calls, **fields):
    return Effect(type="tool_calls", payload={"tool_calls": [*calls], **fields})


def a_call(name, call_id="c1", **arguments):
    return {"name": name, "arguments": arguments, "call_id": call_id}


def perform(tools, *calls, ctx=None):
    outcome = make_tool_calls_handler(tools).handler(a_run(), an_effect(*calls), ctx or a_context())
    assert outcome.status is StepStatus.COMPLETED
    assert outcome.result["mode"] == "executed"
    return outcome.result["results"]


def result_of(function, **arguments):
    (result,) = perform(MappingToolExecutor({"it": function}), a_call("it", **arguments))
    return result


# -- calls and results -------------------------------------------------------------------------------------------------


def test_calls_are_carried_out_in_their_order():
    tools = MappingToolExecutor.from_tools([add])
    assert perform(tools, a_call("add", "c1", a=1, b=2), a_call("add", "c2", a=5)) == [
        {"call_id": "c1", "name": "add", "success": True, "output": 3, "error": None},
        {"call_id": "c2", "name": "add", "success": True, "output": 6, "error": None},
    ]


def test_no_calls_give_no_results():
    assert perform(MappingToolExecutor({})) == []


@pytest.mark.parametrize(
    "call",
    [
        {"name": "add", "arguments": {"a": 1, "b": 2}, "call_id": "c1"},
        {"name": "add", "arguments": '{"a": 1, "b": 2}', "call_id": "c1"},
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}},
        {"id": "c1", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}},
    ],
)
def test_both_shapes_of_a_call_are_understood(call):
    (result,) = perform(MappingToolExecutor({"add": add}), call)
    assert result == {"call_id": "c1", "name": "add", "success": True, "output": 3, "error": None}


@pytest.mark.parametrize("arguments", [None, "", {}, "{}"])
def test_a_call_without_arguments_has_none(arguments):
    (call,) = read_tool_calls([{"name": "now", "arguments": arguments}])
    assert (call.name, call.arguments, call.call_id, call.problem) == ("now", {}, "", None)


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", "3", 3, [1], "\ud800", "[" * 100_000])
def test_arguments_that_are_no_object_fail_their_call_only(arguments):
    tools = MappingToolExecutor({"add": add})
    bad, good = perform(tools, {"name": "add", "arguments": arguments, "call_id": "c1"}, a_call("add", a=1))
    assert not bad["success"]
    assert "the arguments are no JSON object" in bad["error"]
    assert good["success"]


def test_a_call_that_cannot_be_read_keeps_what_was_given():
    (call,) = read_tool_calls([{"id": "c1", "function": {"name": "add", "arguments": '{"a": '}}])
    assert call.as_json() == {"name": "add", "arguments": '{"a": ', "call_id": "c1"}


def test_a_call_without_a_name_fails():
    (result,) = perform(MappingToolExecutor({"add": add}), {"arguments": {}, "call_id": "c1"})
    assert (result["success"], result["error"]) == (False, "the call names no tool")


def test_an_unknown_tool_fails_and_the_known_ones_are_named():
    (result,) = perform(MappingToolExecutor({"add": add, "fail": fail}), a_call("sub", "c9"))
    assert result == {
        "call_id": "c9",
        "name": "sub",
        "success": False,
        "output": None,
        "error": "there is no tool 'sub'; there are: add, fail",
    }


def test_a_tool_that_raises_fails_and_the_next_one_is_called(caplog):
    failed, added = perform(MappingToolExecutor({"fail": fail, "add": add}), a_call("fail"), a_call("add", a=1))
    assert (failed["success"], failed["error"]) == (False, "LookupError: no such thing")
    assert added["success"]
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "missing a required argument: 'a'"),
        ({"a": 1, "c": 2}, "got an unexpected keyword argument 'c'"),
    ],
)
def test_arguments_that_the_function_does_not_take_fail_before_it_is_called(arguments, error):
    result = result_of(add, **arguments)
    assert (result["success"], result["error"]) == (False, error)


@dataclass
class Line:
    item: str
    amounts: tuple[float, ...]


class Found(msgspec.Struct):
    lines: list[Line]


class Dumping:
    def model_dump(self, mode):
        return {"mode": mode}


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        (None, None),
        ({"a": [1, 2.5, "x", True]}, {"a": [1, 2.5, "x", True]}),
        ((1, (2,)), [1, [2]]),
        (Found(lines=[Line("nail", (1.0, 2.0))]), {"lines": [{"item": "nail", "amounts": [1.0, 2.0]}]}),
        ([Dumping()], [{"mode": "json"}]),
    ],
)
def test_values_made_of_json_values_are_outputs(returned, output):
    result = result_of(lambda: returned)
    assert (result["success"], result["output"]) == (True, output)


@pytest.mark.parametrize(
    ("returned", "path"),
    [
        ({"lines": [{"when": {1, 2}}]}, "output.lines[0].when is a set"),
        (float("nan"), "output is nan"),
        ({1: "a"}, "output.1 is a key of type int"),
        (object(), "output is a object"),
    ],
)
def test_an_output_that_is_no_json_value_is_a_failed_result_that_says_the_work_was_done(returned, path):
    result = result_of(lambda: returned)
    assert (result["success"], result["output"]) == (False, None)
    assert "the tool did its work" in result["error"]
    assert path in result["error"]


def test_an_output_that_contains_itself_is_a_failed_result():
    loop = []
    loop.append(loop)
    assert not result_of(lambda: loop)["success"]


@pytest.mark.parametrize("raw", [None, {}, "add"])
def test_a_payload_without_a_list_of_calls_is_refused(raw):
    effect = Effect(type="tool_calls", payload={} if raw is None else {"tool_calls": raw})
    for tools in (MappingToolExecutor({}), PassthroughToolExecutor()):
        with pytest.raises(InvalidPayload, match="tool_calls must be a list"):
            make_tool_calls_handler(tools).handler(a_run(), effect, a_context())


def test_an_entry_that_is_no_object_is_refused_by_its_place():
    with pytest.raises(InvalidPayload, match=r"tool_calls\[1\] must be an object, not str"):
        perform(MappingToolExecutor({"add": add}), a_call("add", a=1), "add")


def test_nothing_is_started_once_the_run_is_cancelled():
    stopped = []

    def stop():
        stopped.append(1)

    ctx = a_context(cancelled=lambda: bool(stopped))
    results = perform(MappingToolExecutor({"stop": stop}), a_call("stop", "c1"), a_call("stop", "c2"), ctx=ctx)
    assert stopped == [1]
    assert [result["success"] for result in results] == [True, False]
    assert results[1]["error"].startswith("not started")


# -- what a tool is told -----------------------------------------------------------------------------------------------


def test_each_call_has_a_key_of_its_own_that_names_its_place():
    seen = []

    @tool(timeout_s=5)
    def look(what: str, ctx: ToolContext) -> None:
        seen.append((what, ctx.run_id, ctx.key, ctx.call_id, ctx.attempt, ctx.epoch, ctx.timeout_s))

    perform(MappingToolExecutor.from_tools([look]), a_call("look", "x", what="a"), a_call("look", "x", what="b"))
    assert seen == [("a", "r1", "key-4:0", "x", 2, 7, 5), ("b", "r1", "key-4:1", "x", 2, 7, 5)]


def test_the_context_is_no_argument_of_the_model():
    def look(ctx: ToolContext) -> str:
        return ctx.run_id

    (definition,) = MappingToolExecutor.from_tools([look]).definitions()
    assert definition["function"]["parameters"]["properties"] == {}
    assert result_of(look)["output"] == "r1"
    assert result_of(look, ctx="forged")["error"] == "got an unexpected argument 'ctx'"


# -- recovery ----------------------------------------------------------------------------------------------------------


@tool(recovery=Recovery.PURE)
def pure():
    return None


@tool(recovery=Recovery.READ)
def read():
    return None


@tool(recovery=Recovery.IDEMPOTENT)
def put():
    return None


def undeclared():
    return None


PAID = {"p1": "receipt 1"}


def was_paid(payment, ctx: ToolContext):
    if payment == "lost":
        return Reconciled.unknown(f"the bank does not answer for {ctx.key}")
    return Reconciled.done(PAID[payment]) if payment in PAID else Reconciled.not_done()


@tool(recovery=Recovery.RECONCILE, reconcile=was_paid)
def pay(payment):
    return f"paid {payment} now"


ALL = MappingToolExecutor.from_tools([pure, read, put, pay, undeclared])


@pytest.mark.parametrize(
    ("names", "weakest"),
    [
        ([], Recovery.PURE),
        (["pure"], Recovery.PURE),
        (["pure", "read"], Recovery.READ),
        (["put", "read", "pure"], Recovery.IDEMPOTENT),
        (["read", "pay", "put"], Recovery.RECONCILE),
        (["pay", "undeclared"], Recovery.ASK),
        (["nonsense"], Recovery.ASK),
    ],
)
def test_recovery_is_the_weakest_class_among_the_tools_called(names, weakest):
    spec = make_tool_calls_handler(ALL)
    assert spec.recovery_of(an_effect(*[a_call(name) for name in names])) is weakest


def test_what_undeclared_tools_are_taken_for_can_be_set():
    spec = make_tool_calls_handler(ALL, undeclared=Recovery.READ)
    assert spec.recovery_of(an_effect(a_call("undeclared"))) is Recovery.READ
    assert spec.recovery_of(an_effect(a_call("undeclared"), a_call("put"))) is Recovery.IDEMPOTENT


@pytest.mark.parametrize("payload", [{}, {"tool_calls": "pay"}, {"tool_calls": ["pay"]}])
def test_a_payload_that_will_be_refused_may_be_repeated(payload):
    spec = make_tool_calls_handler(ALL)
    assert spec.recovery_of(Effect(type="tool_calls", payload=payload)) is Recovery.PURE


def test_the_effects_own_word_goes_first():
    effect = Effect(type="tool_calls", payload={"tool_calls": [a_call("undeclared")]}, recovery=Recovery.READ)
    assert make_tool_calls_handler(ALL).recovery_of(effect) is Recovery.READ


def reconcile(*calls):
    return make_tool_calls_handler(ALL).reconcile(a_run(), an_effect(*calls), a_context())


def test_calls_of_which_none_was_made_are_made_afresh():
    assert reconcile(a_call("pay", payment="p9"), a_call("read")) == Reconciled.not_done()


def test_what_was_done_is_not_done_again_and_the_rest_is():
    verdict = reconcile(a_call("pay", "c1", payment="p1"), a_call("pay", "c2", payment="p9"), a_call("read", "c3"))
    assert verdict.verdict == "done"
    assert [(result["call_id"], result["output"]) for result in verdict.result["results"]] == [
        ("c1", "receipt 1"),
        ("c2", "paid p9 now"),
        ("c3", None),
    ]


def test_one_call_that_cannot_be_told_leaves_all_in_doubt_with_evidence():
    verdict = reconcile(a_call("pay", "c1", payment="p1"), a_call("pay", "c2", payment="lost"))
    assert verdict.verdict == "unknown"
    done, lost = verdict.evidence["tool_calls"]
    assert (done["call_id"], done["verdict"]) == ("c1", "done")
    assert lost == a_call("pay", "c2", payment="lost") | {
        "verdict": "unknown",
        "evidence": "the bank does not answer for key-4:1",
    }


def test_a_tool_without_a_reconcile_function_cannot_be_told():
    (evidence,) = reconcile(a_call("undeclared")).evidence["tool_calls"]
    assert evidence["evidence"] == "tool 'undeclared' has no reconcile function"


def test_recovery_reconcile_without_a_reconcile_function_is_refused_where_it_is_declared():
    with pytest.raises(InvalidHandler, match="tool 'send' has recovery 'reconcile' and no reconcile function"):

        @tool(recovery=Recovery.RECONCILE)
        def send():
            return None


# -- functions as tools ------------------------------------------------------------------------------------------------


@dataclass
class Place:
    street: str
    number: int = 1


def book(
    where: Place,
    kind: Literal["desk", "room"],
    days: Annotated[int, msgspec.Meta(ge=1, description="how many")] = 2,
    note: str | None = None,
    anything=None,
    **more,
):
    """Book a place
    for some days.

    Nobody reads on.
    """


def test_the_definition_of_a_function_comes_from_its_signature():
    (definition,) = MappingToolExecutor.from_tools([book]).definitions()
    assert definition == {
        "type": "function",
        "function": {
            "name": "book",
            "description": "Book a place for some days.",
            "parameters": {
                "type": "object",
                "properties": {
                    "where": {"$ref": "#/$defs/Place"},
                    "kind": {"enum": ["desk", "room"]},
                    "days": {"type": "integer", "minimum": 1, "description": "how many", "default": 2},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "anything": {},
                },
                "required": ["where", "kind"],
                "$defs": {
                    "Place": {
                        "title": "Place",
                        "type": "object",
                        "properties": {"street": {"type": "string"}, "number": {"type": "integer", "default": 1}},
                        "required": ["street"],
                    }
                },
            },
        },
    }


def test_a_function_that_takes_no_more_than_it_names_says_so():
    (definition,) = MappingToolExecutor.from_tools([add]).definitions()
    assert definition["function"]["parameters"]["additionalProperties"] is False


def test_types_that_json_does_not_have_and_unknown_names_take_any_value():
    class Own:
        pass

    def one(x: Own):
        return x

    def two(x: "Nowhere", ctx: "ToolContext" = None):  # noqa: F821 - a name that only a type checker would know
        return x

    for function in (one, two):
        (definition,) = MappingToolExecutor.from_tools([function]).definitions()
        assert definition["function"]["parameters"]["properties"] == {"x": {}}


def test_a_default_that_json_does_not_have_is_left_out():
    def wait(limit: float = float("inf")):
        return limit

    (definition,) = MappingToolExecutor.from_tools([wait]).definitions()
    assert definition["function"]["parameters"]["properties"] == {"limit": {"type": "number"}}


def test_a_declared_function_stays_what_it_was():
    @tool
    def double(x: int) -> int:
        return 2 * x

    @tool(name="half", description="halve it", timeout_s=3, recovery=Recovery.PURE)
    def other(x: int) -> float:
        return x / 2

    assert (double(4), other(4)) == (8, 2)
    first, second = MappingToolExecutor.from_tools([double, other]).tools()
    assert (first.name, first.recovery) == ("double", None)
    assert (second.name, second.description, second.timeout_s, second.recovery) == (
        "half",
        "halve it",
        3,
        Recovery.PURE,
    )


def test_methods_partials_and_builtins_are_tools_too():
    class Shop:
        @tool(recovery=Recovery.READ)
        def price(self, item: str) -> int:
            return len(item)

    tools = MappingToolExecutor({"price": Shop().price, "add2": functools.partial(add, b=2), "pack": dict})
    assert tools.tools()[0].recovery is Recovery.READ
    assert tools.definitions()[0]["function"]["parameters"]["required"] == ["item"]
    results = perform(tools, a_call("price", item="nail"), a_call("add2", a=1), a_call("pack", a=1, b=2))
    assert [result["output"] for result in results] == [4, 3, {"a": 1, "b": 2}]


def test_a_tool_made_by_hand_needs_no_function_of_that_form():
    made = Tool(name="echo", call=lambda arguments, ctx: arguments, parameters={"type": "object"})
    (result,) = perform(MappingToolExecutor.from_tools([made]), a_call("echo", a=1))
    assert result["output"] == {"a": 1}


def test_a_tool_goes_by_the_name_it_is_mapped_to():
    made = Tool(name="echo", call=lambda arguments, ctx: arguments)
    tools = MappingToolExecutor({"repeat": made})
    assert [one.name for one in tools.tools()] == ["repeat"]
    assert perform(tools, a_call("repeat", a=1))[0]["output"] == {"a": 1}


def test_functions_declared_with_abstractcores_decorator_keep_its_name():
    def inner(a: int) -> int:
        return a

    def outer():
        raise AssertionError

    outer._tool_definition = SimpleNamespace(name="official", function=inner)
    (result,) = perform(MappingToolExecutor.from_tools([outer]), a_call("official", a=3))
    assert result["output"] == 3


async def eventually():
    await asyncio.sleep(0)


def positional(x, /):
    return x


@pytest.mark.parametrize(
    ("tool_map", "why"),
    [
        ({"x": eventually}, "tool 'x' is async"),
        ({"x": positional}, "parameter 'x' is positional-only"),
        ({"x": 3}, "tool 'x' is a int, which cannot be called"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_when_it_is_given(tool_map, why):
    with pytest.raises(InvalidHandler, match=why):
        MappingToolExecutor(tool_map)


def test_a_tool_without_a_name_is_refused():
    with pytest.raises(InvalidHandler, match="a tool needs a name"):
        MappingToolExecutor.from_tools([functools.partial(add)])


def test_a_time_limit_must_be_positive():
    with pytest.raises(InvalidHandler, match=r"tool 'x': timeout_s must be more than 0 seconds, not 0"):
        Tool(name="x", call=lambda arguments, ctx: None, timeout_s=0)


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(InvalidHandler, match="two tools are named 'add'") as refused:
        MappingToolExecutor.from_tools([add, add])
    assert isinstance(refused.value, ValueError)


class Doubled:
    def tools(self):
        return [Tool(name="x", call=print), Tool(name="x", call=print)]

    def __repr__(self):
        return "Doubled()"


def test_a_source_with_two_tools_of_one_name_is_refused_at_registration():
    with pytest.raises(InvalidHandler, match=r"Doubled\(\) has two tools named 'x'"):
        make_tool_calls_handler(Doubled())


def test_a_source_may_change_what_it_has():
    class Growing:
        def __init__(self):
            self.known = []

        def tools(self):
            return self.known

    source = Growing()
    spec = make_tool_calls_handler(source)
    source.known.append(Tool(name="late", call=lambda arguments, ctx: "here"))
    outcome = spec.handler(a_run(), an_effect(a_call("late")), a_context())
    assert outcome.result["results"][0]["output"] == "here"


# -- executors ---------------------------------------------------------------------------------------------------------


def test_an_executor_can_be_used_without_a_run():
    assert MappingToolExecutor({"add": add}).execute(tool_calls=[a_call("add", a=1)]) == {
        "mode": "executed",
        "results": [{"call_id": "c1", "name": "add", "success": True, "output": 2, "error": None}],
    }


class Remote:
    """An executor of 0.2: only `execute`."""

    def __init__(self, result):
        self.result = result

    def execute(self, *, tool_calls):
        self.tool_calls = tool_calls
        return self.result


def test_an_executor_of_02_gets_all_calls_in_one_shape():
    remote = Remote({"mode": "executed", "results": []})
    call = {"id": "c1", "function": {"name": "add", "arguments": '{"a": 1}'}}
    outcome = make_tool_calls_handler(remote).handler(a_run(), an_effect(call), a_context())
    assert outcome == EffectOutcome.completed({"mode": "executed", "results": []})
    assert remote.tool_calls == [{"name": "add", "arguments": {"a": 1}, "call_id": "c1"}]


def test_an_executor_that_does_not_say_what_it_has_counts_as_undeclared():
    assert make_tool_calls_handler(Remote({})).recovery_of(an_effect()) is Recovery.ASK
    assert make_tool_calls_handler(Remote({}), undeclared=Recovery.READ).recovery_of(an_effect()) is Recovery.READ


def test_an_executor_may_say_its_recovery_for_all():
    remote = Remote({})
    remote.recovery = Recovery.IDEMPOTENT
    assert make_tool_calls_handler(remote).recovery_of(an_effect()) is Recovery.IDEMPOTENT


def test_an_executor_that_returns_no_dict_is_named():
    with pytest.raises(FatalError, match=r"Remote\.execute returned list"):
        make_tool_calls_handler(Remote([])).handler(a_run(), an_effect(), a_context())


def test_passed_through_calls_wait_for_the_host():
    run, effect = a_run(), Effect(type="tool_calls", payload={"tool_calls": [a_call("add", a=1)]}, result_key="out")
    ctx = a_context(default_next_node="after")
    wait = make_tool_calls_handler(PassthroughToolExecutor()).handler(run, effect, ctx).wait
    assert (wait.reason, wait.wait_key) == (WaitReason.EVENT, f"tool_calls:{run.run_id}:act")
    assert (wait.resume_to_node, wait.result_key) == ("after", "out")
    assert wait.details == {"mode": "passthrough", "tool_calls": [a_call("add", a=1)]}


def test_from_the_second_visit_on_the_key_of_passed_through_calls_has_the_step():
    run = a_run()
    spec = make_tool_calls_handler(PassthroughToolExecutor())
    keys = [
        spec.handler(run, an_effect(), a_context(step=step, visit=visit)).wait.wait_key
        for step, visit in ((3, 1), (9, 2))
    ]
    assert keys == [f"tool_calls:{run.run_id}:act", f"tool_calls:{run.run_id}:act:9"]


def test_the_payload_may_name_key_and_node_of_the_wait():
    effect = an_effect(wait_key="mine", resume_to_node="there")
    wait = make_tool_calls_handler(PassthroughToolExecutor(mode="delegated")).handler(a_run(), effect, a_context()).wait
    assert (wait.wait_key, wait.resume_to_node, wait.details["mode"]) == ("mine", "there", "delegated")


def test_passing_calls_through_touches_nothing():
    assert make_tool_calls_handler(PassthroughToolExecutor()).recovery_of(an_effect(a_call("pay"))) is Recovery.PURE


def test_a_passthrough_cannot_claim_to_have_executed():
    with pytest.raises(InvalidHandler, match="would say that the calls were made"):
        PassthroughToolExecutor(mode="executed")


def test_without_tools_the_effect_fails_and_says_what_to_configure():
    with pytest.raises(FatalError, match="no tools are configured"):
        make_tool_calls_handler().handler(a_run(), an_effect(), a_context())


def test_what_is_neither_source_nor_executor_is_refused():
    with pytest.raises(InvalidHandler, match="dict is neither a ToolSource"):
        make_tool_calls_handler({"add": add})


def test_handlers_are_built_for_what_is_given():
    handlers = build_effect_handlers(tools=ALL, undeclared=Recovery.READ)
    assert handlers.keys() == {"tool_calls"}
    assert handlers["tool_calls"].recovery_of(an_effect(a_call("undeclared"))) is Recovery.READ


def test_the_handler_can_be_called_by_hand_as_in_02(caplog):
    handler = make_tool_calls_handler(tools=ALL)
    assert handler(a_run(), an_effect(a_call("read")), None).result["results"][0]["success"]
    refused = handler(a_run(), Effect(type="tool_calls", payload={}))
    assert refused.status is StepStatus.FAILED
    assert "tool_calls must be a list" in refused.error
    assert bind_handlers({"tool_calls": handler})["tool_calls"] is handler
    assert "tool_calls" in caplog.text


def test_executors_show_what_they_are():
    assert repr(MappingToolExecutor({"add": add})) == "MappingToolExecutor(add)"
    assert repr(PassthroughToolExecutor()) == "PassthroughToolExecutor(mode='passthrough')"

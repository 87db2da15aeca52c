"""The `llm_call` handler: what it asks a client, what it makes of the answer, and what it counts."""

import subprocess
import sys

import pytest

from abstractruntime import Effect, EffectOutcome, Recovery, RunState, StepStatus
from abstractruntime.effects import EffectContext, bind_handlers
from abstractruntime.errors import FatalError, InvalidPayload, RetryableError
from abstractruntime.integrations import build_effect_handlers, make_llm_call_handler
from abstractruntime.integrations.schema import mismatch
from abstractruntime.models import Instant

SCHEMA = {
    "type": "object",
    "properties": {"vendor": {"type": "string"}, "total": {"type": "number"}, "due": {"type": ["string", "null"]}},
    "required": ["vendor", "total"],
    "additionalProperties": False,
}


class ScriptedLLM:
    """Answers what it was given, and keeps what it was asked."""

    def __init__(self, **answer):
        self.answer = {"content": "hello", "data": None, "tool_calls": None, "usage": None, **answer}
        self.asked = []

    def generate(self, *, prompt, messages=None, system_prompt=None, tools=None, params=None):
        self.asked.append(
            {"prompt": prompt, "messages": messages, "system_prompt": system_prompt, "tools": tools, "params": params}
        )
        return self.answer


class BrokenLLM:
    def generate(self, *, prompt, messages=None, system_prompt=None, tools=None, params=None):
        raise RetryableError("nobody there")


class WordyLLM:
    def generate(self, *, prompt, messages=None, system_prompt=None, tools=None, params=None):
        return "hello"


def a_run(**fields):
    run = RunState.new(workflow_id="w", entry_node="ask", **fields)
    run.step = 4
    return run


def a_context(**fields):
    known = {"run_id": "r", "step": 4, "key": "key-4", "attempt": 2, "epoch": 7, "deadline": Instant(0)}
    return EffectContext(**(known | fields))


def call(llm, payload, run=None):
    run = run or a_run()
    effect = Effect(type="llm_call", payload=payload)
    return make_llm_call_handler(llm).handler(run, effect, a_context())


def test_an_answer_is_the_result_as_the_client_gave_it():
    llm = ScriptedLLM(content="four", model="m", finish_reason="stop")
    assert call(llm, {"prompt": "two and two?"}) == EffectOutcome.completed(llm.answer)


def test_all_parts_of_the_payload_reach_the_client():
    llm = ScriptedLLM()
    payload = {
        "prompt": "and now?",
        "messages": [{"role": "user", "content": "hi"}],
        "system_prompt": "be brief",
        "tools": [{"type": "function", "function": {"name": "t"}}],
        "params": {"temperature": 0},
    }
    call(llm, payload)
    (asked,) = llm.asked
    assert {key: asked[key] for key in ("prompt", "messages", "system_prompt", "tools")} == {
        key: payload[key] for key in ("prompt", "messages", "system_prompt", "tools")
    }
    assert asked["params"]["temperature"] == 0


def test_messages_alone_are_enough_and_the_prompt_is_then_empty_text():
    llm = ScriptedLLM()
    call(llm, {"messages": [{"role": "user", "content": "hi"}]})
    assert llm.asked[0]["prompt"] == ""


def test_the_ids_of_the_run_travel_as_trace_metadata_beside_the_callers_own():
    llm = ScriptedLLM()
    run = a_run(actor_id="ann", session_id="s1", parent_run_id="p1")
    call(llm, {"prompt": "?", "params": {"trace_metadata": {"tenant": "t", "run_id": "forged"}}}, run)
    assert llm.asked[0]["params"]["trace_metadata"] == {
        "tenant": "t",
        "run_id": run.run_id,
        "actor_id": "ann",
        "session_id": "s1",
        "parent_run_id": "p1",
    }


def test_ids_that_a_run_does_not_have_are_left_out():
    llm = ScriptedLLM()
    run = a_run()
    call(llm, {"prompt": "?"}, run)
    assert llm.asked[0]["params"]["trace_metadata"] == {"run_id": run.run_id}


def test_idempotency_key_attempt_and_epoch_are_handed_on():
    llm = ScriptedLLM()
    call(llm, {"prompt": "?"})
    params = llm.asked[0]["params"]
    assert (params["idempotency_key"], params["attempt"], params["epoch"]) == ("key-4", 2, 7)


@pytest.mark.parametrize("payload", [{}, {"prompt": ""}, {"prompt": None, "messages": []}, {"system_prompt": "x"}])
def test_a_payload_that_asks_nothing_is_refused_and_says_what_is_missing(payload):
    llm = ScriptedLLM()
    with pytest.raises(InvalidPayload, match="neither 'prompt' nor 'messages'"):
        call(llm, payload)
    assert llm.asked == []


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"prompt": 3}, "payload.prompt must be text, not int"),
        ({"messages": "hi"}, "payload.messages must be a list of objects, not str"),
        ({"messages": ["hi"]}, r"payload.messages\[0\] must be an object, not str"),
        ({"system_prompt": []}, "payload.system_prompt must be text, not list"),
        ({"tools": {}}, "payload.tools must be a list of objects, not dict"),
        ({"params": "temperature=0"}, "payload.params must be an object, not str"),
        ({"response_schema": "invoice"}, "payload.response_schema must be an object, not str"),
        ({"response_schema": {}, "response_schema_name": 1}, "payload.response_schema_name must be text, not int"),
    ],
)
def test_a_part_of_the_wrong_kind_is_refused_by_its_path(part, path):
    with pytest.raises(InvalidPayload, match=path):
        call(ScriptedLLM(), {"prompt": "?"} | part)


def test_the_payload_is_left_as_it_was():
    payload = {"prompt": "?", "params": {"seed": 1}, "response_schema": {}}
    call(ScriptedLLM(content="{}"), payload)
    assert payload == {"prompt": "?", "params": {"seed": 1}, "response_schema": {}}


def test_what_the_client_raises_passes_through():
    with pytest.raises(RetryableError, match="nobody there"):
        call(BrokenLLM(), {"prompt": "?"})


def test_a_client_that_returns_no_dict_is_named():
    with pytest.raises(FatalError, match=r"WordyLLM\.generate returned str"):
        call(WordyLLM(), {"prompt": "?"})


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 16}, 16),
        ({"prompt_tokens": 10, "completion_tokens": 5}, 15),
        ({"input_tokens": 3, "output_tokens": 4}, 7),
        ({"prompt_tokens": 10}, 10),
        ({}, 0),
        (None, 0),
        ({"total_tokens": "many"}, 0),
    ],
)
def test_used_tokens_are_added_to_the_runs_limits(usage, counted):
    run = a_run(vars={"_limits": {"max_tokens": 100, "estimated_tokens_used": 1000}})
    call(ScriptedLLM(usage=usage), {"prompt": "?"}, run)
    assert run.vars["_limits"] == {"max_tokens": 100, "estimated_tokens_used": 1000 + counted}


def test_tokens_are_counted_in_a_run_without_limits_too():
    run = a_run()
    for _ in range(2):
        call(ScriptedLLM(usage={"total_tokens": 21}), {"prompt": "?"}, run)
    assert run.vars["_limits"]["estimated_tokens_used"] == 42


def test_a_schema_is_handed_on_with_its_name():
    llm = ScriptedLLM(content="{}")
    call(llm, {"prompt": "?", "response_schema": {"type": "object"}, "response_schema_name": "invoice"})
    params = llm.asked[0]["params"]
    assert params["response_schema"] == {"type": "object"}
    assert params["response_schema_name"] == "invoice"


@pytest.mark.parametrize(
    "content",
    [
        '{"vendor": "Kestrel", "total": 12.5}',
        '\n {"vendor": "Kestrel", "total": 12.5}\n',
        '```json\n{"vendor": "Kestrel", "total": 12.5}\n```',
        '```\n{"vendor": "Kestrel",\n "total": 12.5}\n```\n',
    ],
)
def test_with_a_schema_the_answer_is_parsed_into_data(content):
    outcome = call(ScriptedLLM(content=content), {"prompt": "?", "response_schema": SCHEMA})
    assert outcome.result["data"] == {"vendor": "Kestrel", "total": 12.5}
    assert outcome.result["content"] == content


def test_data_that_the_client_parsed_is_kept():
    answer = ScriptedLLM(content="as follows", data={"vendor": "Kestrel", "total": 1})
    assert call(answer, {"prompt": "?", "response_schema": SCHEMA}).result["data"] == {"vendor": "Kestrel", "total": 1}


def test_without_a_schema_nothing_is_parsed():
    assert call(ScriptedLLM(content='{"a": 1}'), {"prompt": "?"}).result["data"] is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("The vendor is Kestrel.", "is no JSON"),
        ('{"vendor": "Kes', "is no JSON"),
        ('{"total": NaN}', "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("", "answered nothing"),
        (None, "answered nothing"),
        ('{"vendor": "Kestrel"}', "answer.total is missing"),
        ('{"vendor": 3, "total": 1}', "answer.vendor is 3, not string"),
        ('{"vendor": "K", "total": 1, "sum": 1}', "answer.sum is not allowed"),
        ("[]", "answer is an array, not object"),
    ],
)
def test_an_answer_that_is_not_what_the_schema_asks_for_is_a_failure_that_shows_it(content, why):
    outcome = call(ScriptedLLM(content=content), {"prompt": "?", "response_schema": SCHEMA})
    assert outcome.status is StepStatus.FAILED
    assert why in outcome.error
    assert outcome.result is None


def test_a_failure_quotes_the_beginning_of_a_long_answer_only():
    outcome = call(ScriptedLLM(content="blah " * 10_000), {"prompt": "?", "response_schema": SCHEMA})
    assert "blah blah" in outcome.error
    assert len(outcome.error) < 400


def test_a_useless_answer_is_counted_all_the_same():
    run = a_run()
    call(ScriptedLLM(content="?", usage={"total_tokens": 9}), {"prompt": "?", "response_schema": SCHEMA}, run)
    assert run.vars["_limits"]["estimated_tokens_used"] == 9


def test_an_answer_that_was_cut_off_says_so():
    llm = ScriptedLLM(content='{"vendor": "K', finish_reason="length")
    assert "raise params.max_tokens" in call(llm, {"prompt": "?", "response_schema": SCHEMA}).error


def test_a_refusal_says_so():
    llm = ScriptedLLM(content=None, metadata={"refusal": "not for me"})
    assert "it refused: 'not for me'" in call(llm, {"prompt": "?", "response_schema": SCHEMA}).error


def test_a_model_that_calls_tools_first_may_leave_the_answer_for_later():
    llm = ScriptedLLM(content=None, tool_calls=[{"name": "look", "arguments": {}, "call_id": "1"}])
    outcome = call(llm, {"prompt": "?", "response_schema": SCHEMA})
    assert outcome == EffectOutcome.completed(llm.answer)


@pytest.mark.parametrize(
    ("value", "schema", "problem"),
    [
        (1, {"type": "integer"}, None),
        (1.0, {"type": "integer"}, None),
        (1.5, {"type": "integer"}, "it is 1.5, not integer"),
        (True, {"type": "integer"}, "it is true, not integer"),
        (True, {"type": "number"}, "it is true, not number"),
        (None, {"type": ["string", "null"]}, None),
        (3, {"type": ["string", "null"]}, "it is 3, not string or null"),
        ("x", {"type": "colour"}, None),
        ("EUR", {"enum": ["EUR", "USD"]}, None),
        ("GBP", {"enum": ["EUR", "USD"]}, "it is 'GBP', not one of 'EUR', 'USD'"),
        (True, {"enum": [1]}, "it is true, not one of 1"),
        (2, {"const": 1}, "it is 2, not 1"),
        ([1, "a"], {"items": {"type": "integer"}}, "it[1] is 'a', not integer"),
        (
            {"a": {"b": []}},
            {"properties": {"a": {"properties": {"b": {"type": "object"}}}}},
            "it.a.b is an array, not object",
        ),
        ({"a": 1}, {"additionalProperties": {"type": "string"}}, "it.a is 1, not string"),
        ({"x-a": 1}, {"additionalProperties": False, "patternProperties": {"^x-": {}}}, None),
        (None, {"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        (
            1,
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "it fits none of its alternatives: it is 1, not string; it is 1, not null",
        ),
        ({"a": 1}, {"allOf": [{"required": ["a"]}, {"required": ["b"]}]}, "it.b is missing"),
        (
            [{"n": "x"}],
            {"items": {"$ref": "#/$defs/P"}, "$defs": {"P": {"properties": {"n": {"type": "integer"}}}}},
            "it[0].n is 'x', not integer",
        ),
        (1, {"$ref": "other.json"}, None),
        (1, {"minimum": 5}, None),
        ("y" * 99, {"const": "n"}, f"it is '{'y' * 39}…, not 'n'"),
    ],
)
def test_what_of_a_schema_is_checked(value, schema, problem):
    assert mismatch(value, schema, "it") == problem


def test_it_is_repeated_under_its_key_after_a_crash_and_committed_at_once():
    spec = make_llm_call_handler(ScriptedLLM())
    assert spec.recovery_of(Effect(type="llm_call")) is Recovery.IDEMPOTENT
    assert spec.costly


def test_handlers_are_built_for_what_is_given():
    assert build_effect_handlers() == {}
    assert build_effect_handlers(llm=ScriptedLLM()).keys() == {"llm_call"}


def test_the_handler_can_be_called_by_hand_as_in_02():
    run = a_run()
    handler = make_llm_call_handler(llm=ScriptedLLM(content="hi"))
    outcome = handler(run, Effect(type="llm_call", payload={"prompt": "?"}), "next")
    assert outcome.result["content"] == "hi"
    assert bind_handlers({"llm_call": handler})["llm_call"] is handler


def test_called_by_hand_a_failure_is_an_outcome(caplog):
    outcome = make_llm_call_handler(BrokenLLM())(a_run(), Effect(type="llm_call", payload={"prompt": "?"}))
    assert outcome == EffectOutcome.failed("nobody there")
    assert "nobody there" in caplog.text


def test_importing_the_package_imports_none_of_its_modules():
    script = (
        "import sys, abstractruntime.integrations as i\n"
        "before = [m for m in sys.modules if m.startswith('abstractruntime.integrations.')]\n"
        "assert not before, before\n"
        "assert all(getattr(i, name) for name in i.__all__)\n"
        "assert set(i.__all__) <= set(dir(i))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    import abstractruntime.integrations

    with pytest.raises(AttributeError, match="no attribute 'Toool'"):
        _ = abstractruntime.integrations.Toool

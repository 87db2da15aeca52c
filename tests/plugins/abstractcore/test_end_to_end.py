"""A whole run over the HTTP client: configured by settings, failing with a record, going on where it failed."""

import re
from pathlib import Path

import pytest

import abstractruntime as ar
from abstractruntime import Effect, Recovery, RunStatus, StepPlan, WorkflowSpec
from abstractruntime.errors import PluginMissing
from abstractruntime.integrations import MappingToolExecutor, build_effect_handlers, tool
from abstractruntime_abstractcore.client import RemoteAbstractCoreLLMClient
from abstractruntime_abstractcore.factory import create_remote_file_runtime, create_remote_runtime

SCHEMA = {
    "type": "object",
    "properties": {"vendor": {"type": "string"}},
    "required": ["vendor"],
    "additionalProperties": False,
}


@tool(recovery=Recovery.READ)
def stock(item: str) -> int:
    """How many of an item there are."""
    return {"nails": 70}[item]


TOOLS = MappingToolExecutor.from_tools([stock])


def ask(run, ctx):
    payload = {"messages": run.vars["messages"], "tools": TOOLS.definitions()}
    return StepPlan(
        node_id="ask", effect=Effect(type="llm_call", payload=payload, result_key="answer"), next_node="act"
    )


def act(run, ctx):
    answer = run.vars["answer"]
    if not answer["tool_calls"]:
        return StepPlan(node_id="act", complete_output={"text": answer["content"]})
    run.vars["messages"].append({"role": "assistant", "content": None, "tool_calls": answer["tool_calls"]})
    effect = Effect(type="tool_calls", payload={"tool_calls": answer["tool_calls"]}, result_key="called")
    return StepPlan(node_id="act", effect=effect, next_node="tell")


def tell(run, ctx):
    run.vars["messages"] += [
        {"role": "tool", "tool_call_id": result["call_id"], "content": str(result["output"])}
        for result in run.vars["called"]["results"]
    ]
    return StepPlan(node_id="tell", next_node="ask")


AGENT = WorkflowSpec("agent", "ask", {"ask": ask, "act": act, "tell": tell})


def extract(run, ctx):
    payload = {"prompt": "who?", "response_schema": SCHEMA}
    effect = Effect(type="llm_call", payload=payload, result_key="answer")
    return StepPlan(node_id="extract", effect=effect, next_node="finish")


def finish(run, ctx):
    return StepPlan(node_id="finish", complete_output=run.vars["answer"]["data"])


EXTRACTION = WorkflowSpec("extraction", "extract", {"extract": extract, "finish": finish})


def question(text="How many nails?"):
    return {"messages": [{"role": "user", "content": text}]}


def api_call(call_id, **arguments):
    return {"id": call_id, "type": "function", "function": {"name": "stock", "arguments": arguments}}


@pytest.fixture
def configured(server, monkeypatch, tmp_path):
    """A working folder with nothing but the settings of the plugin."""
    monkeypatch.chdir(tmp_path)
    settings = f'[plugin.abstractcore]\nbase_url = "{server.url}"\nmodel = "tiny"\ntimeout_s = 20\n'
    Path("abstractruntime.toml").write_text(settings, encoding="utf-8")


def test_an_agent_runs_on_settings_alone(configured, server, completion):
    server.answers(completion(None, tool_calls=[api_call("c1", item="nails")]), completion("Seventy."))
    handlers = build_effect_handlers(tools=TOOLS)
    with ar.open_runtime("memory:", workflows=[AGENT], effect_handlers=handlers) as rt:
        run_id = rt.start(workflow=AGENT, vars=question(), actor_id="ann", session_id="s1")
        state = rt.tick(run_id=run_id)
        kinds = [row["kind"] for row in rt.get_ledger(run_id)]
    assert (state.status, state.output, state.error) == (RunStatus.COMPLETED, {"text": "Seventy."}, None)
    assert state.vars["_limits"]["estimated_tokens_used"] == 20
    assert (kinds.count("decided"), kinds.count("completed")) == (3, 3)
    first, second = server.requests
    assert first.headers["x-abstractcore-run-id"] == run_id
    assert (first.headers["x-abstractcore-actor-id"], first.headers["x-abstractcore-session-id"]) == ("ann", "s1")
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
    assert second.body["messages"][-1] == {"role": "tool", "tool_call_id": "c1", "content": "70"}


def test_without_its_settings_the_run_fails_and_says_what_to_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with ar.open_runtime("memory:", workflows=[EXTRACTION]) as rt:
        state = rt.tick(run_id=rt.start(workflow=EXTRACTION))
    assert state.status is RunStatus.FAILED
    assert "set base_url in [plugin.abstractcore]" in state.error


def test_a_model_that_is_down_fails_the_run_with_a_record_and_a_retry_goes_on(server, completion, reply):
    server.answers(reply({"error": "loading"}, status=503), completion('{"vendor": "Kestrel"}'))
    with create_remote_runtime(server_base_url=server.url, model="tiny", timeout_s=20) as rt:
        run_id = rt.start(workflow=EXTRACTION)
        failed = rt.tick(workflow=EXTRACTION, run_id=run_id)
        last = rt.get_ledger(run_id)[-1]
        rt.retry(run_id)
        state = rt.tick(workflow=EXTRACTION, run_id=run_id)
    assert failed.status is RunStatus.FAILED
    assert f"{server.url}/v1/chat/completions answered 503: loading" in failed.error
    assert last["status"] == "failed"
    assert "answered 503: loading" in str(last["error"])
    assert (state.status, state.output) == (RunStatus.COMPLETED, {"vendor": "Kestrel"})


def test_a_server_that_is_not_there_fails_the_run_and_names_it(dead_url):
    with create_remote_runtime(server_base_url=dead_url, model="tiny") as rt:
        run_id = rt.start(workflow=EXTRACTION)
        state = rt.tick(workflow=EXTRACTION, run_id=run_id)
    assert state.status is RunStatus.FAILED
    assert f"no LLM server answers at {dead_url}/v1/chat/completions" in state.error


def test_garbage_where_data_was_asked_for_fails_the_run_and_a_retry_asks_again(server, completion):
    server.answers(completion("The vendor is Kestrel."), completion('{"vendor": "Kestrel"}'))
    with create_remote_runtime(server_base_url=server.url, model="tiny", timeout_s=20) as rt:
        run_id = rt.start(workflow=EXTRACTION)
        failed = rt.tick(workflow=EXTRACTION, run_id=run_id)
        rt.retry(run_id)
        state = rt.tick(workflow=EXTRACTION, run_id=run_id)
    assert failed.status is RunStatus.FAILED
    assert "the LLM's answer is no JSON" in failed.error
    assert "The vendor is Kestrel." in failed.error
    assert state.output == {"vendor": "Kestrel"}


def test_an_interrupted_call_is_sent_again_under_the_same_key(completion):
    sent = []

    class Interrupted:
        def post(self, url, *, headers, json, timeout):
            sent.append((headers["Idempotency-Key"], headers["X-AbstractRuntime-Attempt"], json))
            if len(sent) == 1:
                raise KeyboardInterrupt
            return completion('{"vendor": "Kestrel"}')

    llm = RemoteAbstractCoreLLMClient(server_base_url="http://llm.example", model="tiny", request_sender=Interrupted())
    with ar.open_runtime("memory:", workflows=[EXTRACTION], effect_handlers=build_effect_handlers(llm=llm)) as rt:
        run_id = rt.start(workflow=EXTRACTION)
        with pytest.raises(KeyboardInterrupt):
            rt.tick(run_id=run_id)
        state = rt.tick(run_id=run_id)
    assert state.output == {"vendor": "Kestrel"}
    (first_key, first_attempt, first_body), (second_key, second_attempt, second_body) = sent
    assert (first_key, first_body) == (second_key, second_body)
    assert (first_attempt, second_attempt) == ("1", "2")


def test_a_remote_runtime_leaves_tools_to_its_host_and_each_visit_has_a_key_of_its_own(server, completion):
    server.answers(
        completion(None, tool_calls=[api_call("c1", item="nails")]),
        completion(None, tool_calls=[api_call("c2", item="screws")]),
        completion("Seventy, and none."),
    )
    keys = []
    with create_remote_runtime(server_base_url=server.url, model="tiny", timeout_s=20) as rt:
        run_id = rt.start(workflow=AGENT, vars=question())
        state = rt.tick(workflow=AGENT, run_id=run_id)
        while state.status is RunStatus.WAITING:
            keys.append(state.waiting.wait_key)
            results = [call | {"output": 7} for call in state.waiting.details["tool_calls"]]
            state = rt.resume(workflow=AGENT, run_id=run_id, wait_key=keys[-1], payload={"results": results})
    assert state.output == {"text": "Seventy, and none."}
    assert keys[0] == f"tool_calls:{run_id}:act"
    assert re.fullmatch(re.escape(keys[0]) + r":\d+", keys[1])


def test_a_remote_runtime_runs_the_tools_that_it_is_given(server, completion):
    server.answers(completion(None, tool_calls=[api_call("c1", item="nails")]), completion("Seventy."))
    with create_remote_runtime(server_base_url=server.url, model="tiny", timeout_s=20, tool_executor=TOOLS) as rt:
        run_id = rt.start(workflow=AGENT, vars=question())
        state = rt.tick(workflow=AGENT, run_id=run_id)
    assert state.vars["called"]["results"][0]["output"] == 70


def test_a_remote_runtime_takes_the_pair_of_stores_of_02(server, completion):
    server.answers(completion('{"vendor": "Kestrel"}'))
    stores = {"run_store": ar.InMemoryRunStore(), "ledger_store": ar.InMemoryLedgerStore()}
    with create_remote_runtime(server_base_url=server.url, model="tiny", timeout_s=20, **stores) as rt:
        run_id = rt.start(workflow=EXTRACTION)
        assert rt.tick(workflow=EXTRACTION, run_id=run_id).output == {"vendor": "Kestrel"}
    assert stores["run_store"].load(run_id).status is RunStatus.COMPLETED


def test_runs_in_a_folder_need_the_file_store_and_say_so(tmp_path):
    with pytest.raises(PluginMissing, match="abstractruntime-file"):
        create_remote_file_runtime(base_dir=tmp_path, server_base_url="http://127.0.0.1:8000", model="tiny")

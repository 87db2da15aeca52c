"""The HTTP client: what it sends, what it makes of each answer, and how each failure reads."""

import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from abstractruntime.errors import EffectError, FatalError, InvalidSetting, RateLimited, RetryableError
from abstractruntime_abstractcore.client import HttpResponse, HttpxRequestSender, RemoteAbstractCoreLLMClient
from abstractruntime_abstractcore.failure import retry_after_s

SCHEMA = {
    "type": "object",
    "properties": {"vendor": {"type": "string"}},
    "required": ["vendor"],
    "additionalProperties": False,
}


@pytest.fixture
def client(server):
    with RemoteAbstractCoreLLMClient(server_base_url=server.url, model="tiny", timeout_s=20) as client:
        yield client


@pytest.fixture
def asked(client, server, completion):
    """The request that reaches the server."""

    def ask(**arguments):
        server.answers(completion())
        client.generate(**arguments)
        return server.requests[-1]

    return ask


@pytest.fixture
def failure(client, server, reply):
    """The error that a reply leads to."""

    def ask(*args, **fields):
        server.answers(reply(*args, **fields))
        with pytest.raises(EffectError) as raised:
            client.generate(prompt="?")
        return raised.value

    return ask


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_text_answer(client, server, completion, reply):
    server.answers(reply(completion("four"), headers={"x-abstractcore-trace-id": "t-1"}))
    assert client.generate(prompt="two and two?") == {
        "content": "four",
        "data": None,
        "tool_calls": None,
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        "model": "tiny",
        "finish_reason": "stop",
        "metadata": {"trace_id": "t-1"},
        "trace_id": "t-1",
    }


def test_what_a_server_leaves_out_is_none(client, server):
    server.answers({"choices": [{"message": {}}]})
    assert set(client.generate(prompt="?").values()) == {None}


@pytest.mark.parametrize(
    "call",
    [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"name": "add", "arguments": {"a": 1}, "call_id": "c1"},
    ],
)
def test_tool_calls_of_both_shapes_come_out_in_one(client, server, completion, call):
    server.answers(completion(None, tool_calls=[call]))
    answer = client.generate(prompt="?")
    assert answer["content"] is None
    assert answer["tool_calls"] == [{"name": "add", "arguments": {"a": 1}, "call_id": "c1"}]


def test_tool_calls_without_ids_get_some(client, server, completion):
    server.answers(completion(None, tool_calls=[{"function": {"name": name}} for name in "ab"]))
    assert [call["call_id"] for call in client.generate(prompt="?")["tool_calls"]] == ["call_1", "call_2"]


def test_arguments_that_are_no_json_are_kept_for_the_tool_calls_handler_to_answer(client, server, completion):
    server.answers(completion(None, tool_calls=[{"id": "c1", "function": {"name": "add", "arguments": '{"a": '}}]))
    assert client.generate(prompt="?")["tool_calls"] == [{"name": "add", "arguments": '{"a": ', "call_id": "c1"}]


def test_an_empty_list_of_tool_calls_is_none(client, server, completion):
    server.answers(completion("hi", tool_calls=[]))
    assert client.generate(prompt="?")["tool_calls"] is None


def test_content_in_parts_is_joined(client, server, completion):
    server.answers(completion([{"type": "text", "text": "fo"}, {"type": "image"}, {"type": "text", "text": "ur"}]))
    assert client.generate(prompt="?")["content"] == "four"


def test_a_refusal_stands_in_the_metadata(client, server):
    server.answers({"choices": [{"message": {"content": None, "refusal": "no"}}]})
    assert client.generate(prompt="?")["metadata"] == {"refusal": "no"}


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v3", "/api/v3/chat/completions"),
        ("/api", "/api/v1/chat/completions"),
        ("/openai/v1?api-version=1", "/openai/v1/chat/completions?api-version=1"),
    ],
)
def test_the_base_url_may_have_a_version_or_not(server, completion, base, path):
    server.answers(completion())
    with RemoteAbstractCoreLLMClient(server_base_url=server.url + base, model="tiny") as client:
        client.generate(prompt="?")
    assert server.requests[0].path == path


def test_system_prompt_messages_and_prompt_are_sent_in_this_order(asked):
    request = asked(prompt="now?", messages=[{"role": "user", "content": "hi"}], system_prompt="be brief")
    assert request.body == {
        "model": "tiny",
        "stream": False,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hi"},
            {"role": "user", "content": "now?"},
        ],
    }


def test_an_earlier_answer_goes_back_in_the_apis_shape(asked):
    calls = [
        {"name": "add", "arguments": {"a": "é"}, "call_id": "c1"},
        {"name": "add", "arguments": '{"a": ', "call_id": "c2"},
        {"id": "c3", "type": "function", "function": {"name": "add", "arguments": "{}"}},
    ]
    request = asked(messages=[{"role": "assistant", "content": None, "tool_calls": calls}])
    assert request.body["messages"] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": "é"}'}},
                {"id": "c2", "type": "function", "function": {"name": "add", "arguments": '{"a": '}},
                {"id": "c3", "type": "function", "function": {"name": "add", "arguments": "{}"}},
            ],
        }
    ]


def test_params_that_the_api_knows_are_passed_on(asked):
    params = {
        "temperature": 0,
        "max_tokens": 50,
        "stop": ["."],
        "seed": 7,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.25,
        "model": "other",
        "base_url": "http://127.0.0.1:9/v1",
    }
    body = asked(prompt="?", params=params | {"top_p": None}).body
    assert {key: body[key] for key in params} == params
    assert "top_p" not in body


def test_params_that_nobody_knows_are_left_out_with_a_warning(asked, caplog):
    assert "temprature" not in asked(prompt="?", params={"temprature": 1}).body
    assert "temprature" in caplog.text


def test_extra_body_is_sent_as_it_is(asked):
    assert asked(prompt="?", params={"extra_body": {"cache_prompt": True}}).body["cache_prompt"] is True


def test_tools_are_passed_on(asked):
    tools = [{"type": "function", "function": {"name": "add"}}]
    assert asked(prompt="?", tools=tools).body["tools"] == tools
    assert "tools" not in asked(prompt="?", tools=[]).body


def test_a_schema_becomes_a_response_format(asked):
    params = {"response_schema": SCHEMA, "response_schema_name": "my invoice"}
    assert asked(prompt="?", params=params).body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "my_invoice", "schema": SCHEMA, "strict": True},
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        SCHEMA | {"required": []},
        SCHEMA | {"properties": {"vendor": {"type": "array", "items": {"type": "object"}}}},
        SCHEMA | {"$defs": {"x": {"anyOf": [{"properties": {"y": {}}}]}}},
    ],
)
def test_an_open_schema_is_not_sent_as_strict_which_openai_would_refuse(asked, schema):
    json_schema = asked(prompt="?", params={"response_schema": schema}).body["response_format"]["json_schema"]
    assert (json_schema["strict"], json_schema["name"]) == (False, "answer")


def test_the_title_of_a_schema_is_its_name(asked):
    body = asked(prompt="?", params={"response_schema": SCHEMA | {"title": "Invoice"}}).body
    assert body["response_format"]["json_schema"]["name"] == "Invoice"


def test_ids_and_key_travel_as_headers(asked):
    trace = {"run_id": "r1", "actor_id": "Zoë\n", "session_id": "s1", "parent_run_id": "p1", "tenant": "Ö"}
    params = {"trace_metadata": trace, "idempotency_key": "k1", "attempt": 2, "epoch": 5}
    headers = asked(prompt="?", params=params).headers
    assert json.loads(headers["x-abstractcore-trace-metadata"]) == trace
    assert headers["x-abstractcore-run-id"] == "r1"
    assert headers["x-abstractcore-actor-id"] == "Zo%C3%AB%0A"
    assert headers["x-abstractcore-session-id"] == "s1"
    assert headers["x-abstractcore-parent-run-id"] == "p1"
    assert headers["idempotency-key"] == "k1"
    assert headers["x-abstractruntime-attempt"] == "2"
    assert headers["x-abstractruntime-epoch"] == "5"
    assert headers["content-type"] == "application/json"


def test_without_ids_there_are_no_such_headers(asked):
    headers = asked(prompt="?", params={"trace_metadata": {}}).headers
    assert not [name for name in headers if name.startswith("x-") or name == "idempotency-key"]


def test_configured_headers_win_whatever_their_case(server, completion):
    server.answers(completion())
    headers = {"idempotency-key": "mine", "X-Tenant": "t"}
    with RemoteAbstractCoreLLMClient(server_base_url=server.url, model="tiny", headers=headers) as client:
        client.generate(prompt="?", params={"idempotency_key": "k1"})
    assert server.requests[0].headers["idempotency-key"] == "mine"
    assert server.requests[0].headers["x-tenant"] == "t"


# -- failures ----------------------------------------------------------------------------------------------------------


def test_nobody_there(dead_url):
    client = RemoteAbstractCoreLLMClient(server_base_url=dead_url, model="tiny")
    with client, pytest.raises(RetryableError, match=f"no LLM server answers at {dead_url}/v1/chat") as raised:
        client.generate(prompt="?")
    assert "start the server" in raised.value.hint


def test_too_slow(server, completion, reply):
    enough = threading.Event()
    server.answers(reply(completion(), after=enough))
    client = RemoteAbstractCoreLLMClient(server_base_url=server.url, model="tiny", timeout_s=0.05)
    with client, pytest.raises(RetryableError, match=r"did not answer within 0\.05 s") as raised:
        client.generate(prompt="?")
    enough.set()
    assert "timeout_s" in raised.value.hint


def test_an_answer_that_breaks_off(failure):
    error = failure(b'{"choices": [', missing=100)
    assert type(error) is RetryableError
    assert "broke" in str(error)


def test_an_answer_whose_encoding_is_broken(failure):
    error = failure(b"no gzip at all", headers={"Content-Encoding": "gzip"})
    assert type(error) is RetryableError


@pytest.mark.parametrize(
    "body", [b"<html><body>It works!</body></html>", b'{"choices": [', b"", b"[1, 2]", b"\xff\xfe"]
)
def test_an_answer_that_is_no_json_object(failure, server, body):
    error = failure(body)
    assert type(error) is FatalError
    assert f"the LLM server at {server.url}/v1/chat/completions answered with something that is no JSON object" in str(
        error
    )
    assert "base_url" in error.hint


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "it has nothing"),
        ({"object": "list", "data": []}, "it has 'object', 'data'"),
        ({"choices": []}, "it has 'choices'"),
        ({"choices": ["x"]}, "it has 'choices'"),
        ({"choices": [{"message": None}]}, "it has 'choices'"),
        ({"error": {"message": "out of credit"}}, "out of credit"),
    ],
)
def test_an_answer_without_a_message(failure, body, says):
    error = failure(body)
    assert type(error) is FatalError
    assert "without choices[0].message" in str(error)
    assert says in str(error)


def test_an_error_passed_on_inside_an_answer_counts_as_one(failure):
    error = failure({"error": {"code": 429, "message": "slow down"}}, headers={"Retry-After": "2"})
    assert type(error) is RateLimited
    assert error.retry_after_s == 2


def test_tool_calls_that_are_no_list_of_objects(failure, completion):
    assert "tool_calls that are no list of objects" in str(failure(completion(None, tool_calls="add(1)")))


def test_garbage_in_the_content_is_still_an_answer(client, server, completion):
    server.answers(completion("\x00 %$#"))
    assert client.generate(prompt="?")["content"] == "\x00 %$#"


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (307, FatalError, "set base_url to where it leads: https://elsewhere.example/v1"),
        (400, FatalError, "does not take the request"),
        (401, FatalError, "set api_key"),
        (403, FatalError, "may not do this"),
        (404, FatalError, "correct base_url or model"),
        (408, RetryableError, "can be sent again"),
        (413, FatalError, "fewer or shorter messages"),
        (422, FatalError, "refused again"),
        (429, RateLimited, "wait and ask again"),
        (500, RetryableError, "can be sent again"),
        (502, RetryableError, "can be sent again"),
        (503, RetryableError, "can be sent again"),
    ],
)
def test_each_status_says_what_to_do(failure, status, kind, hint):
    headers = {"Location": "https://elsewhere.example/v1"}
    error = failure({"error": {"message": "as I said"}}, status=status, headers=headers)
    assert type(error) is kind
    assert f"answered {status}: as I said" in str(error)
    assert hint in error.hint
    assert error.status == status


def test_a_model_that_the_server_does_not_have(failure):
    error = failure({"error": {"message": "The model `tiny` does not exist", "code": "model_not_found"}}, status=404)
    assert "The model `tiny` does not exist" in str(error)
    assert "model" in error.hint


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": "plainly"}, "plainly"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
        ({"message": "hm"}, "hm"),
        (b"<h1>Bad\n  Gateway</h1>", "<h1>Bad Gateway</h1>"),
        (b"", ""),
        ({}, ""),
        (b"x" * 5000, "x" * 300 + "…"),
    ],
)
def test_what_the_server_says_is_found_and_shortened(failure, body, said):
    assert failure(body, status=500).message.partition("answered 500")[2].removeprefix(": ") == said


@pytest.mark.parametrize(("status", "value"), [(429, "7"), (503, "7"), (429, "7.0")])
def test_a_server_that_wants_to_be_left_alone_says_how_long(failure, status, value):
    error = failure({}, status=status, headers={"Retry-After": value})
    assert type(error) is RateLimited
    assert error.retry_after_s == 7
    assert "7 s" in error.hint


def test_a_date_to_wait_for_is_read_by_the_servers_own_clock():
    now = datetime(2020, 1, 1, 12, tzinfo=UTC)
    headers = {"retry-after": format_datetime(now + timedelta(seconds=90), usegmt=True), "date": format_datetime(now)}
    assert retry_after_s(headers) == 90


def test_a_date_that_is_past_means_no_waiting():
    assert retry_after_s({"retry-after": "Wed, 01 Jan 2020 12:00:00 GMT"}) == 0


@pytest.mark.parametrize("value", ["", "soon", "-1", "1e400", "nan", "٣", "Wed, 99 Foo 2020 12:00:00 GMT"])
def test_a_wait_that_cannot_be_read_is_none(value):
    assert retry_after_s({"retry-after": value}) is None


def test_secrets_stand_in_no_message_and_no_repr(server, reply):
    server.answers(reply({"error": "Incorrect API key provided: sk-12345, or tenant-key-9"}, status=401))
    client = RemoteAbstractCoreLLMClient(
        server_base_url=server.url.replace("http://", "http://ann:pa55word@"),
        model="tiny",
        headers={"Authorization": "Bearer sk-12345", "X-Api-Key": "tenant-key-9"},
    )
    with client, pytest.raises(FatalError) as raised:
        client.generate(prompt="?")
    shown = f"{raised.value} {raised.value!r} {raised.value.values} {raised.value.__cause__} {client!r}"
    assert "Incorrect API key provided: ***, or ***" in shown
    for secret in ("sk-12345", "tenant-key-9", "pa55word"):
        assert secret not in shown


@pytest.mark.parametrize(
    "base_url", ["127.0.0.1:8000", "ftp://x/v1", "http://", "http:///v1", "http://[::1", "http://x:99999", ""]
)
def test_a_base_url_that_is_none_is_refused_at_once(base_url):
    with pytest.raises(InvalidSetting, match=r"is no http\(s\) URL"):
        RemoteAbstractCoreLLMClient(server_base_url=base_url, model="tiny")


def test_a_model_and_some_time_are_needed():
    with pytest.raises(InvalidSetting, match="name of a model"):
        RemoteAbstractCoreLLMClient(server_base_url="http://127.0.0.1", model="")
    with pytest.raises(InvalidSetting, match="timeout_s must be more than 0 seconds, not 0"):
        RemoteAbstractCoreLLMClient(server_base_url="http://127.0.0.1", model="tiny", timeout_s=0)


# -- senders -----------------------------------------------------------------------------------------------------------


class Sender:
    """Sends nowhere."""

    def __init__(self, response):
        self.response = response
        self.sent = []

    def post(self, url, *, headers, json, timeout):
        self.sent.append((url, headers, json, timeout))
        return self.response


class LibraryResponse:
    """What HTTP libraries return."""

    def __init__(self, body, status_code=200):
        self.status_code = status_code
        self.headers = {"X-Trace-Id": "t-2"}
        self.text = "not json"
        self._body = body

    def json(self):
        if self._body is None:
            raise ValueError
        return self._body


def with_sender(response):
    sender = Sender(response)
    client = RemoteAbstractCoreLLMClient(
        server_base_url="http://llm.example", model="m", timeout_s=9, headers={"A": "b"}, request_sender=sender
    )
    return client, sender


def test_a_sender_of_ones_own_gets_the_whole_request(completion):
    client, sender = with_sender(completion())
    client.generate(prompt="?")
    ((url, headers, body, timeout),) = sender.sent
    assert (url, headers, timeout) == ("http://llm.example/v1/chat/completions", {"A": "b"}, 9)
    assert body["messages"] == [{"role": "user", "content": "?"}]


def test_a_sender_may_return_a_body_a_response_or_that_of_a_library(completion):
    for response in (completion(), HttpResponse(completion(), {"X-Trace-Id": "t-2"}), LibraryResponse(completion())):
        client, _ = with_sender(response)
        answer = client.generate(prompt="?")
        assert answer["content"] == "hello"
        assert answer["trace_id"] == (None if isinstance(response, dict) else "t-2")


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (LibraryResponse({"error": "x"}, 400), "answered 400: x"),
        (LibraryResponse(None), "no JSON object: 'not json'"),
        ("hello", "the request sender returned str"),
    ],
)
def test_what_a_sender_returns_is_judged_like_any_answer(response, why):
    client, _ = with_sender(response)
    with pytest.raises(FatalError, match=why):
        client.generate(prompt="?")


def test_closing_a_client_leaves_a_given_sender_open(server, completion):
    server.answers(completion())
    with HttpxRequestSender() as sender:
        for _ in range(2):
            with RemoteAbstractCoreLLMClient(server_base_url=server.url, model="m", request_sender=sender) as client:
                assert client.generate(prompt="?")["content"] == "hello"


def test_one_client_serves_many_threads(client, server, completion):
    server.answers(completion())
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(client.generate(prompt="?"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [answer["content"] for answer in answers] == ["hello"] * 8

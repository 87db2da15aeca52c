"""The LLM client: one `/v1/chat/completions` request per call, to AbstractCore's server or any that speaks the same."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Self, cast

from abstractruntime.errors import EffectError, FatalError, InvalidSetting
from abstractruntime.integrations.calls import ToolCall, read_tool_calls
from abstractruntime.models import JsonDict, JsonValue
from abstractruntime.urls import looks_secret, redact_url

from .address import chat_url, header_text
from .failure import failure, said_by
from .transport import HttpResponse, HttpxRequestSender, RequestSender

__all__ = ["HttpResponse", "HttpxRequestSender", "RemoteAbstractCoreLLMClient", "RequestSender", "open_client"]

log = logging.getLogger(__name__)

_ID_HEADERS = {
    "actor_id": "X-AbstractCore-Actor-Id",
    "session_id": "X-AbstractCore-Session-Id",
    "run_id": "X-AbstractCore-Run-Id",
    "parent_run_id": "X-AbstractCore-Parent-Run-Id",
}
_CALL_HEADERS = {
    "idempotency_key": "Idempotency-Key",
    "attempt": "X-AbstractRuntime-Attempt",
    "epoch": "X-AbstractRuntime-Epoch",
}
_SECRET_HEADERS = frozenset(("authorization", "cookie", "proxy-authorization"))
_TRACE_HEADERS = ("x-abstractcore-trace-id", "x-trace-id")
_BODY_PARAMS = frozenset(
    (
        "base_url",  # where AbstractCore's server is to send this one request on to
        "frequency_penalty",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "model",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "tool_choice",
        "top_p",
    )
)
_OWN_PARAMS = frozenset(("extra_body", "response_schema", "response_schema_name", "trace_metadata", *_CALL_HEADERS))
_SCHEMA_NAME = re.compile(r"[^A-Za-z0-9_-]+")


class RemoteAbstractCoreLLMClient:
    """Asks a model behind an HTTP server; see `abstractruntime.integrations.LLMClient`.

    ``server_base_url``: with or without ``/v1``. ``timeout_s``: how long to wait for a connection, and then for the
    answer. ``headers``: sent with each request; they win over those that the client makes. ``request_sender``: what
    sends instead of httpx. Raises `InvalidSetting`.

    Of ``params`` the server gets those that OpenAI's API names (``temperature``, ``max_tokens``, ``stop``, ``seed``,
    the penalties, ``tool_choice`` and more), ``model`` for this one request, ``base_url`` (AbstractCore's server sends
    the request on to it) and what stands in ``extra_body``; others are left out, with a warning.
    """

    def __init__(
        self,
        *,
        server_base_url: str,
        model: str,
        timeout_s: float = 60.0,
        headers: Mapping[str, str] | None = None,
        request_sender: RequestSender | None = None,
    ) -> None:
        if not model:
            raise InvalidSetting("the LLM client needs the name of a model", hint="give model=, as the server names it")
        if not timeout_s > 0:
            raise InvalidSetting(f"timeout_s must be more than 0 seconds, not {timeout_s!r}", hint="60 is usual")
        self._url = chat_url(server_base_url)
        self._server = redact_url(self._url)
        self._model = model
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._own_sender = None if request_sender else HttpxRequestSender()
        self._sender: RequestSender = request_sender or cast("RequestSender", self._own_sender)

    def generate(
        self,
        *,
        prompt: str | None = None,
        messages: list[JsonDict] | None = None,
        system_prompt: str | None = None,
        tools: list[JsonDict] | None = None,
        params: JsonDict | None = None,
    ) -> JsonDict:
        """One request, one answer. Raises `RetryableError`, `RateLimited` and `FatalError`; they name the server."""
        given = params or {}
        body: JsonDict = {
            "model": self._model,
            "messages": [*_messages(prompt, messages, system_prompt)],
            "stream": False,
        }
        if tools:
            body["tools"] = [*tools]
        body |= _body_params(given)
        response = _response(
            self._sender.post(self._url, headers=self._request_headers(given), json=body, timeout=self._timeout_s)
        )
        headers = {name.lower(): value for name, value in response.headers.items()}
        try:
            return _answer(response, headers, self._server)
        except EffectError as error:
            raise self._without_secrets(error) from None

    def _request_headers(self, params: JsonDict) -> dict[str, str]:
        made: dict[str, str] = {}
        trace = params.get("trace_metadata")
        if isinstance(trace, dict) and trace:
            made["X-AbstractCore-Trace-Metadata"] = json.dumps(trace, separators=(",", ":"))
            made |= {header: str(trace[name]) for name, header in _ID_HEADERS.items() if trace.get(name)}
        made |= {header: str(params[name]) for name, header in _CALL_HEADERS.items() if params.get(name) is not None}
        configured = {name.lower() for name in self._headers}
        made = {name: header_text(value) for name, value in made.items() if name.lower() not in configured}
        return self._headers | made

    def _without_secrets(self, error: EffectError) -> EffectError:
        """A server may quote in its message what it was sent."""
        message = error.message
        for name, value in self._headers.items():
            if name.lower() in _SECRET_HEADERS or looks_secret(name):
                message = message.replace(value, "***").replace(value.rpartition(" ")[2], "***")
        return type(error)(message, hint=error.hint, **error.values)

    def close(self) -> None:
        """Close the connections of the client's own sender; one that was given is its giver's."""
        if self._own_sender is not None:
            self._own_sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RemoteAbstractCoreLLMClient(server={self._server!r}, model={self._model!r})"


def open_client(options: object) -> RemoteAbstractCoreLLMClient:
    """The client that ``[plugin.abstractcore]`` describes; ``options`` is a `ClientOptions`."""
    from .options import ClientOptions

    if not isinstance(options, ClientOptions):
        raise InvalidSetting(
            f"the abstractcore plugin was opened with {type(options).__name__}, not with its options",
            hint="set base_url and model in [plugin.abstractcore]",
        )
    headers = {name: value.get_secret_value() for name, value in options.headers.items()}
    if options.api_key is not None and "authorization" not in map(str.lower, headers):
        headers["Authorization"] = f"Bearer {options.api_key.get_secret_value()}"
    return RemoteAbstractCoreLLMClient(
        server_base_url=options.base_url, model=options.model, timeout_s=options.timeout_s, headers=headers
    )


def _messages(prompt: str | None, messages: list[JsonDict] | None, system_prompt: str | None) -> list[JsonDict]:
    found: list[JsonDict] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    found += [_message(message) for message in messages or ()]
    if prompt:
        found.append({"role": "user", "content": prompt})
    return found


def _message(message: JsonDict) -> JsonDict:
    """A message as the API wants it: an earlier answer may be in the shape that this client gave it."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {
        **message,
        # AbstractCore's server (2.30) fails on a null beside tool calls; to the API both are the same.
        "content": "" if message.get("content") is None else message["content"],
        "tool_calls": [_api_call(call) for call in read_tool_calls(calls)],
    }


def _api_call(call: ToolCall) -> JsonValue:
    arguments = call.as_json()["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": text}}


def _body_params(params: JsonDict) -> JsonDict:
    body: JsonDict = {name: value for name, value in params.items() if name in _BODY_PARAMS and value is not None}
    schema = params.get("response_schema")
    if isinstance(schema, dict):
        body["response_format"] = _response_format(schema, params.get("response_schema_name"))
    extra = params.get("extra_body")
    if isinstance(extra, dict):
        body |= extra
    if left_out := params.keys() - _BODY_PARAMS - _OWN_PARAMS:
        log.warning(
            "params that the LLM server does not get: %s (put them into extra_body)", ", ".join(sorted(left_out))
        )
    return body


def _response_format(schema: JsonDict, name: JsonValue) -> JsonValue:
    wanted = next((text for text in (name, schema.get("title")) if isinstance(text, str) and text), "answer")
    return {
        "type": "json_schema",
        "json_schema": {
            "name": _SCHEMA_NAME.sub("_", wanted)[:64],
            "schema": schema,
            "strict": _is_strict(schema),
        },
    }


def _is_strict(schema: JsonValue) -> bool:
    """Whether the strict mode of OpenAI's API takes the schema: each object closed, each of its members required."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        members = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        if schema.get("additionalProperties") is not False or set(members) - set(
            required if isinstance(required, list) else ()
        ):
            return False
    return all(map(_is_strict, schema.values()))


def _response(sent: object) -> HttpResponse:
    """What a sender returned; those of 0.2 return a body, or a response of whatever HTTP library."""
    if isinstance(sent, HttpResponse):
        return sent
    if isinstance(sent, dict):
        return HttpResponse(sent)
    decode, headers = getattr(sent, "json", None), getattr(sent, "headers", None)
    if callable(decode) and headers is not None:
        try:
            body = decode()
        except ValueError:
            body = str(getattr(sent, "text", ""))
        return HttpResponse(body, dict(headers), getattr(sent, "status_code", 200))
    raise FatalError(
        f"the request sender returned {type(sent).__name__}", hint="return an HttpResponse, or the body as a dict"
    )


def _answer(response: HttpResponse, headers: Mapping[str, str], server: str) -> JsonDict:
    body = response.body
    if not 200 <= response.status < 300:
        raise failure(response.status, body, headers, server)
    if not isinstance(body, dict):
        raise FatalError(
            f"the LLM server at {server} answered with something that is no JSON object: {said_by(body)!r}",
            hint="look whether base_url leads to an OpenAI-compatible server",
            url=server,
        )
    choice = _first(body.get("choices"))
    message = None if choice is None else choice.get("message")
    if choice is None or not isinstance(message, dict):
        raise _without_choice(body, headers, server)
    trace_id = next((headers[name] for name in _TRACE_HEADERS if name in headers), None)
    return {
        "content": _text(message.get("content")),
        "data": None,
        "tool_calls": _tool_calls(message.get("tool_calls"), server),
        "usage": _dict(body.get("usage")),
        "model": body.get("model"),
        "finish_reason": choice.get("finish_reason"),
        "metadata": _metadata(trace_id, message.get("refusal")),
        "trace_id": trace_id,
    }


def _without_choice(body: JsonDict, headers: Mapping[str, str], server: str) -> EffectError:
    error = body.get("error")
    status = error.get("code") if isinstance(error, dict) else None
    if isinstance(status, int) and 400 <= status < 600:
        return failure(status, body, headers, server)  # routers answer 200 and pass the error on inside
    said = said_by({"error": error}) if error else f"it has {', '.join(map(repr, body)) or 'nothing'}"
    return FatalError(
        f"the LLM server at {server} answered without choices[0].message: {said}",
        hint="look whether base_url leads to an OpenAI-compatible chat endpoint",
        url=server,
    )


def _tool_calls(raw: JsonValue, server: str) -> JsonValue:
    if not raw:
        return None
    if not isinstance(raw, list) or not all(isinstance(entry, dict) for entry in raw):
        raise FatalError(f"the LLM server at {server} answered with tool_calls that are no list of objects", url=server)
    calls = [call.as_json() for call in read_tool_calls(raw)]
    # Small servers leave the id out, and an answer to a call has to name it.
    return [{**call, "call_id": call["call_id"] or f"call_{index}"} for index, call in enumerate(calls, start=1)]


def _metadata(trace_id: str | None, refusal: JsonValue) -> JsonValue:
    found: JsonDict = {}
    if trace_id:
        found["trace_id"] = trace_id
    if refusal:
        found["refusal"] = refusal
    return found or None


def _first(choices: JsonValue) -> JsonDict | None:
    return _dict(choices[0]) if isinstance(choices, list) and choices else None


def _dict(value: JsonValue) -> JsonDict | None:
    return value if isinstance(value, dict) else None


def _text(content: JsonValue) -> str | None:
    """The text of a message: as text, or in parts."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(part for part in parts if isinstance(part, str))

"""The `llm_call` effect: one request to a model, through whatever client there is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol, cast

import msgspec
from msgspec import Struct

from ..effects import DEFAULT_TIMEOUT_S, EffectContext, EffectOutcome
from ..errors import FatalError, InvalidPayload
from ..models import Effect, JsonDict, JsonValue, Recovery, RunState
from ..vars import get_limits
from .schema import mismatch
from .spec import CallableSpec

_SHOWN = 200
_FENCE = re.compile(r"\A```[A-Za-z]*\s*\n(.*?)\n?\s*```\Z", re.DOTALL)


class LLMClient(Protocol):
    """Sends one request to a model and returns its answer. Shared by threads."""

    def generate(
        self,
        *,
        prompt: str,
        messages: list[JsonDict] | None = None,
        system_prompt: str | None = None,
        tools: list[JsonDict] | None = None,
        params: JsonDict | None = None,
    ) -> JsonDict:
        """The model's answer to ``messages`` (``{"role", "content"}``, oldest first) followed by ``prompt``.

        ``prompt`` is empty where there is none. ``tools``: definitions as the model gets them. ``params``:
        ``temperature``, ``max_tokens``, ``stop``, ``seed`` and the like, and what the handler adds: ``trace_metadata``
        (``run_id``, ``actor_id``, ``session_id``, ``parent_run_id``), ``idempotency_key``, ``attempt``, ``epoch``, and
        with a schema ``response_schema`` and ``response_schema_name``. A client ignores those it has no use for.

        Returns JSON values under ``content`` (text or None), ``data`` (what the answer holds under a schema, or None),
        ``tool_calls`` (a list of ``{name, arguments, call_id}``, or None), ``usage`` (token counts, or None),
        ``model``, ``finish_reason``, ``metadata``, ``trace_id``. Raises `RetryableError` where the same request may
        succeed later (`RateLimited` with the seconds to wait), `FatalError` where it will not.
        """
        ...


class _Request(Struct, frozen=True, kw_only=True):
    prompt: str
    messages: list[JsonDict] | None
    system_prompt: str | None
    tools: list[JsonDict] | None
    params: JsonDict
    schema: JsonDict | None


def make_llm_call_handler(llm: LLMClient, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> CallableSpec:
    """The handler of `llm_call` over a client.

    Payload: ``prompt`` or ``messages`` or both, ``system_prompt``, ``tools``, ``params``, ``response_schema`` (a JSON
    Schema), ``response_schema_name``. The result is the client's answer; with a schema its ``data`` holds the answer
    parsed and checked, unless the model called tools instead. The tokens that the answer reports are added to
    ``vars["_limits"]["estimated_tokens_used"]``, those of a useless answer too. Recovery: `Recovery.IDEMPOTENT` (asked
    again under the same key after a crash) and costly (a paid answer is committed at once).
    """

    def call_llm(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        request = _request(effect.payload)
        answer = llm.generate(
            prompt=request.prompt,
            messages=request.messages,
            system_prompt=request.system_prompt,
            tools=request.tools,
            params=request.params | _trace(run, request.params) | _call(ctx),
        )
        if not isinstance(answer, dict):
            raise FatalError(
                f"{type(llm).__name__}.generate returned {type(answer).__name__}, not a dict",
                hint="an LLMClient returns a dict with 'content', 'data', 'tool_calls', 'usage' and more",
            )
        _count_tokens(run, answer.get("usage"))
        if request.schema is None:
            return EffectOutcome.completed(answer)
        return _structured(answer, request.schema)

    return CallableSpec(handler=call_llm, recovery=Recovery.IDEMPOTENT, costly=True, timeout_s=timeout_s)


def _request(payload: JsonDict) -> _Request:
    prompt, messages = payload.get("prompt"), payload.get("messages")
    if not prompt and not messages:
        raise InvalidPayload(
            "llm_call has nothing to ask: payload has neither 'prompt' nor 'messages'",
            hint='payload={"prompt": "…"} or payload={"messages": [{"role": "user", "content": "…"}]}',
        )
    schema = _optional_dict(payload, "response_schema")
    params = dict(_optional_dict(payload, "params") or {})
    if schema is not None:
        params["response_schema"] = schema
        if name := _optional_text(payload, "response_schema_name"):
            params["response_schema_name"] = name
    return _Request(
        prompt=_optional_text(payload, "prompt") or "",
        messages=_optional_dicts(payload, "messages"),
        system_prompt=_optional_text(payload, "system_prompt"),
        tools=_optional_dicts(payload, "tools"),
        params=params,
        schema=schema,
    )


def _optional_text(payload: JsonDict, key: str) -> str | None:
    value = payload.get(key)
    if value is None or isinstance(value, str):
        return value
    raise _wrong(key, "text", value)


def _optional_dict(payload: JsonDict, key: str) -> JsonDict | None:
    value = payload.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise _wrong(key, "an object", value)


def _optional_dicts(payload: JsonDict, key: str) -> list[JsonDict] | None:
    value = payload.get(key)
    if value is None:
        return None
    if not isinstance(value, list):
        raise _wrong(key, "a list of objects", value)
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise _wrong(f"{key}[{index}]", "an object", item)
    return cast("list[JsonDict]", value)


def _wrong(path: str, wanted: str, value: JsonValue) -> InvalidPayload:
    message = f"llm_call: payload.{path} must be {wanted}, not {type(value).__name__}"
    return InvalidPayload(message, path=f"payload.{path}")


def _trace(run: RunState, params: JsonDict) -> JsonDict:
    given = params.get("trace_metadata")
    ids: Mapping[str, str | None] = {
        "run_id": run.run_id,
        "actor_id": run.actor_id,
        "session_id": run.session_id,
        "parent_run_id": run.parent_run_id,
    }
    known: JsonDict = {name: value for name, value in ids.items() if value}
    return {"trace_metadata": (given if isinstance(given, dict) else {}) | known}


def _call(ctx: EffectContext) -> JsonDict:
    return {"idempotency_key": ctx.key, "attempt": ctx.attempt, "epoch": ctx.epoch}


def _count_tokens(run: RunState, usage: object) -> None:
    if not isinstance(usage, dict):
        return
    used = _tokens(usage)
    if used <= 0:
        return
    limits = get_limits(run.vars)
    before = limits.get("estimated_tokens_used")
    limits["estimated_tokens_used"] = (before if isinstance(before, int) else 0) + used


def _tokens(usage: Mapping[str, object]) -> int:
    """The total, else the sum of both directions, under the names of either API."""
    total = usage.get("total_tokens")
    if isinstance(total, int):
        return total
    pairs = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    counts = (next((usage[name] for name in pair if isinstance(usage.get(name), int)), 0) for pair in pairs)
    return sum(cast("int", count) for count in counts)


def _structured(answer: JsonDict, schema: JsonDict) -> EffectOutcome:
    data, content = answer.get("data"), answer.get("content")
    if data is None:
        if answer.get("tool_calls"):
            return EffectOutcome.completed(answer)
        if not isinstance(content, str) or not content.strip():
            return EffectOutcome.failed(f"the LLM answered nothing where JSON was asked for{_circumstances(answer)}")
        try:
            data = msgspec.json.decode(_unfenced(content))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return EffectOutcome.failed(
                f"the LLM's answer is no JSON ({error}){_circumstances(answer)}: {_excerpt(content)}"
            )
    problem = mismatch(data, schema, "answer")
    if problem is not None:
        return EffectOutcome.failed(
            f"the LLM's answer does not fit response_schema: {problem}{_circumstances(answer)}: {_excerpt(content)}"
        )
    return EffectOutcome.completed({**answer, "data": data})


def _unfenced(content: str) -> str:
    """The text inside one Markdown code fence around the whole of it: models put it there unasked."""
    text = content.strip()
    fenced = _FENCE.match(text)
    return fenced.group(1) if fenced else text


def _circumstances(answer: JsonDict) -> str:
    if answer.get("finish_reason") == "length":
        return "; it was cut off at its maximum length, raise params.max_tokens"
    metadata = answer.get("metadata")
    refusal = metadata.get("refusal") if isinstance(metadata, dict) else None
    if refusal:
        return f"; it refused: {_excerpt(refusal)}"
    return ""


def _excerpt(content: JsonValue) -> str:
    text = repr(content)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

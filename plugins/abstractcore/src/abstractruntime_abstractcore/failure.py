"""What a server's refusal means: which of our errors, with what it said and what to do."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from abstractruntime.errors import EffectError, FatalError, RateLimited, RetryableError
from abstractruntime.models import JsonValue

_SHOWN = 300
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{0,9})?", re.ASCII)
_TOO_EARLY = frozenset({408, 409, 425})
_HINTS: Mapping[int, str] = {
    400: "the server does not take the request as it is; see what it says",
    401: "set api_key in [plugin.abstractcore], best as ABSTRACTRUNTIME_PLUGIN__ABSTRACTCORE__API_KEY",
    403: "the key is known and may not do this; ask who runs the server",
    404: "correct base_url or model in [plugin.abstractcore]",
    413: "send fewer or shorter messages",
}


def failure(status: int, body: JsonValue, headers: Mapping[str, str], server: str) -> EffectError:
    """The error for an answer that is none. ``headers``: names in lower case. ``server``: as it may be shown."""
    said = said_by(body)
    message = f"the LLM server at {server} answered {status}" + (f": {said}" if said else "")
    if status == 429 or (status == 503 and "retry-after" in headers):
        wait_s = retry_after_s(headers)
        hint = "wait and ask again" if wait_s is None else f"ask again in {wait_s:g} s"
        return RateLimited(message, hint=hint, status=status, url=server, retry_after_s=wait_s)
    if status >= 500 or status in _TOO_EARLY:
        return RetryableError(
            message, hint="look into the server's log; the request can be sent again", status=status, url=server
        )
    if 300 <= status < 400:
        hint = f"set base_url to where it leads: {headers.get('location', 'it does not say')}"
    else:
        hint = _HINTS.get(status, "the same request will be refused again; see what the server says")
    return FatalError(message, hint=hint, status=status, url=server)


def said_by(body: JsonValue) -> str:
    """The sentence in an error body, wherever servers put it, on one line and shortened."""
    text = " ".join(_sentence(body).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _sentence(body: JsonValue) -> str:
    if isinstance(body, dict):
        for key in ("error", "message", "detail", "msg"):
            if body.get(key):
                return _sentence(body[key])
    if isinstance(body, list) and body:
        return "; ".join(_sentence(item) for item in body)
    return "" if body is None or body in ({}, []) else str(body)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the server asks to be left alone, from seconds or a date; None where it does not say."""
    value = headers.get("retry-after", "").strip()
    if _NUMBER.fullmatch(value):
        return float(value)
    until = _seconds(value)
    if until is None:
        return None
    # The server's own clock, where it shows it: ours may differ.
    now = _seconds(headers.get("date", ""))
    return max(0.0, until - (time.time() if now is None else now))


def _seconds(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (IndexError, OverflowError, TypeError, ValueError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

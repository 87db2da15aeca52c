"""How values are shown: short, and without what looks like a secret by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum

from ..urls import looks_secret, redact_url

HIDDEN = "***"
_SHOWN_CHARS = 120


def shown(key: str, value: object) -> str:
    """``value`` as text for messages, ``***`` where the dotted ``key`` looks secret."""
    option = re.sub(r"^plugin\.[^.]*\.", "", key)  # a plugin named "keycloak" keeps no secrets by that
    if looks_secret(option):
        return HIDDEN
    text = repr(_redacted(value))
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _redacted(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: HIDDEN if looks_secret(str(name)) else _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return redact_url(value) if isinstance(value, str) else value


def hide_secrets(text: str, values: Mapping[str, object]) -> str:
    """``text`` without the values whose names look secret, however deep they stand in ``values``."""
    for secret in _secrets(values, hidden=False):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(value: object, *, hidden: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _secrets(inner, hidden=hidden or looks_secret(str(name)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item, hidden=hidden)
    elif hidden and value not in (None, "", True, False):
        yield str(value)

"""Where the server's chat endpoint is, given its base URL, and how headers get there in one piece."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit, urlunsplit

from abstractruntime.errors import InvalidSetting
from abstractruntime.urls import redact_url

_ENDPOINT = "/chat/completions"
_VERSION = re.compile(r"/v\d+[a-z0-9]*\Z")
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


def chat_url(base_url: str) -> str:
    """The chat endpoint below ``base_url``, which may end with the API's version or not. Raises `InvalidSetting`."""
    shown = redact_url(base_url)
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, valid = None, False
    if parts is None or not valid:
        raise InvalidSetting(
            f"the LLM server's base_url {shown!r} is no http(s) URL",
            hint="write it like http://127.0.0.1:8000/v1",
            url=shown,
        )
    path = parts.path.rstrip("/").removesuffix(_ENDPOINT)
    version = "" if _VERSION.search(path) else "/v1"
    return urlunsplit((parts.scheme, parts.netloc, f"{path}{version}{_ENDPOINT}", parts.query, ""))


def header_text(value: str) -> str:
    """``value`` as a header may hold it: what is no printable ASCII is percent-encoded, as UTF-8."""
    return quote(value, safe=_PRINTABLE)

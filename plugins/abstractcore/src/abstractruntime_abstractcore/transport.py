"""How a request gets to the server: a protocol of one method, and httpx behind it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import msgspec

from abstractruntime.errors import RetryableError
from abstractruntime.models import JsonDict, JsonValue
from abstractruntime.urls import redact_url


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What a server answered: ``body`` as JSON, or as text where it is none; ``headers`` with names in any case."""

    body: JsonValue
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


class RequestSender(Protocol):
    """Sends a JSON body and returns what comes back, whatever its status."""

    def post(self, url: str, *, headers: dict[str, str], json: JsonDict, timeout: float) -> HttpResponse | JsonDict:
        """The response, or its body alone. ``timeout``: seconds. Raises `RetryableError` where none came."""
        ...


class HttpxRequestSender:
    """Sends through one httpx client, which keeps its connections. Safe to share between threads."""

    def __init__(self) -> None:
        import httpx  # 0.1 s, which only those pay who send something

        self._httpx = httpx
        self._client = httpx.Client()
        # Idle connections are sockets: a sender that is forgotten closes them, too.
        self._close = weakref.finalize(self, self._client.close)

    def post(self, url: str, *, headers: dict[str, str], json: JsonDict, timeout: float) -> HttpResponse:
        shown = redact_url(url)
        try:
            response = self._client.post(
                url,
                headers={"Content-Type": "application/json", **headers},
                content=msgspec.json.encode(json),
                timeout=timeout,
            )
        except self._httpx.ConnectTimeout as error:
            raise self._unreachable(shown, f"no connection within {timeout:g} s") from error
        except self._httpx.TimeoutException as error:
            raise RetryableError(
                f"the LLM server at {shown} did not answer within {timeout:g} s",
                hint="give it more time (timeout_s), ask for less (max_tokens), or look whether it is overloaded",
                url=shown,
                timeout_s=timeout,
            ) from error
        except self._httpx.ConnectError as error:
            raise self._unreachable(shown, str(error)) from error
        except (self._httpx.TransportError, self._httpx.DecodingError) as error:
            raise RetryableError(
                f"the connection to the LLM server at {shown} broke: {error}",
                hint="look into the server's log; the request can be sent again",
                url=shown,
            ) from error
        return HttpResponse(_json_or_text(response.content), dict(response.headers), response.status_code)

    @staticmethod
    def _unreachable(shown: str, reason: str) -> RetryableError:
        return RetryableError(
            f"no LLM server answers at {shown}: {reason}",
            hint="start the server, or correct base_url in [plugin.abstractcore]",
            url=shown,
        )

    def close(self) -> None:
        """Close the connections. Sending afterwards is an error; closing twice is none."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _json_or_text(content: bytes) -> JsonValue:
    try:
        value: JsonValue = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return content.decode(errors="replace")
    return value

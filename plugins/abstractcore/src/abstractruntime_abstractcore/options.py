"""What ``[plugin.abstractcore]`` may hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from abstractruntime.errors import InvalidSetting

from .address import chat_url


def _server(base_url: str) -> str:
    try:
        chat_url(base_url)
    except InvalidSetting as error:
        raise ValueError(f"no http(s) URL; {error.hint}") from None
    return base_url


class ClientOptions(BaseModel):
    """Where the LLM is and how it is asked.

    ``base_url``: of the server, with or without ``/v1``. ``model``: as the server names it. ``api_key``: sent as a
    bearer token. ``timeout_s``: how long to wait for the server to connect, and then for its answer. ``headers``: sent
    with each request, before those that the client makes itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    base_url: Annotated[str, AfterValidator(_server)]
    model: str = Field(min_length=1)
    api_key: SecretStr | None = None
    timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    headers: dict[str, SecretStr] = Field(default_factory=dict)

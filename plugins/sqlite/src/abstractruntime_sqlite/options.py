"""The options of ``[plugin.sqlite]``. The only module here that imports pydantic, and only where options are set."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from abstractruntime.errors import InvalidUrl
from abstractruntime.store.contract import StoreUrl


class SqliteOptions(BaseModel):
    """What can be set in ``[plugin.sqlite]``, in ``ABSTRACTRUNTIME_PLUGIN__SQLITE__…`` and behind ``?`` in the URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    durability: Literal["process", "power"] = Field(
        default="process",
        description="What an answered commit survives: the kill of a process, or the loss of power too (fsync).",
    )
    busy_timeout_s: float = Field(
        default=10.0, gt=0, le=3600, description="How long to wait for the writer of another process, in seconds."
    )


def merged(options: SqliteOptions, url: StoreUrl) -> SqliteOptions:
    """The options with the URL's parameters before them. Raises `InvalidUrl` for one that is unknown or wrong."""
    try:
        return SqliteOptions.model_validate({**options.model_dump(), **url.query})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidUrl(
            f"{url.text} has a parameter {name} that cannot be used: {first['msg']}",
            hint=f"the parameters are namespace, {', '.join(SqliteOptions.model_fields)}",
            url=url.text,
        ) from error

"""The options of ``[plugin.sqlite]``. The only module here that imports pydantic, and only where options are set."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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

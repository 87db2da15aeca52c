"""A stable name for an actor, derived from what is known of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..models import JsonDict, JsonValue


def sha256_hex(data: bytes) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class ActorFingerprint:
    """An agent, a human or a service: ``actor_id`` is ``ar_`` and 24 hex digits over what describes it."""

    actor_id: str
    kind: Literal["agent", "human", "service"]
    display_name: str | None = None
    metadata: JsonDict = field(default_factory=dict)

    @classmethod
    def from_metadata(
        cls,
        *,
        kind: Literal["agent", "human", "service"],
        display_name: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> ActorFingerprint:
        """The same description gives the same id, on every machine."""
        described = {"kind": kind, "display_name": display_name, "metadata": dict(metadata or {})}
        canonical = json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return cls(f"ar_{sha256_hex(canonical.encode())[:24]}", kind, display_name, dict(metadata or {}))

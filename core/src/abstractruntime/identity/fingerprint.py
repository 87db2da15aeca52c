"""A stable name for an actor, derived from what is known of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..models import JsonDict, JsonValue


def sha256_hex(data: bytes | str) -> str:
    """SHA-256 as 64 hex digits; of text, its UTF-8."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


@dataclass(frozen=True, slots=True)
class ActorFingerprint:
    """An agent, a human or a service: ``actor_id`` is ``ar_`` and 24 hex digits over what describes it."""

    actor_id: str
    kind: Literal["agent", "human", "service"]
    display_name: str | None = None
    metadata: JsonDict = field(default_factory=dict)

    def to_dict(self) -> JsonDict:
        """The fields as a JSON object."""
        return {
            "actor_id": self.actor_id,
            "kind": self.kind,
            "display_name": self.display_name,
            "metadata": dict(self.metadata),
        }

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

"""Proving that a ledger's rows follow from each other.

Two forms of row are read. A row of `Runtime.get_ledger` holds in ``header`` the stored text that was hashed:
``record_hash`` is its SHA-256, and the header names the hash of the record before. A row without ``header`` is of the
form of 0.2: ``record_hash`` is the SHA-256 of the row's canonical JSON without ``record_hash`` and ``signature``.

A chain proves that nothing inside it was changed. That its tail was not cut off, or all of it written anew, is proved
only against something kept elsewhere: give the head hash or the number of rows that you know of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from ..models import JsonDict, JsonValue

__all__ = ["compute_record_hash", "verify_ledger_chain"]

_UNHASHED = frozenset(("record_hash", "signature"))


def compute_record_hash(*, record: Mapping[str, JsonValue], prev_hash: str | None) -> str:
    """The hash of a 0.2 row that follows ``prev_hash``: SHA-256 as 64 hex digits.

    Hashed is the row without ``record_hash`` and ``signature``, with ``prev_hash``, as JSON with sorted keys, ``,`` and
    ``:`` as separators, in UTF-8.
    """
    hashed = {key: value for key, value in record.items() if key not in _UNHASHED}
    hashed["prev_hash"] = prev_hash
    return _sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def verify_ledger_chain(
    records: Sequence[Mapping[str, JsonValue]],
    *,
    expected_head: str | None = None,
    expected_count: int | None = None,
) -> JsonDict:
    """Check that each row has the hash it claims and names the row before it.

    Returns ``{"ok", "count", "errors", "first_bad_index", "head_hash", "computed_head_hash"}``. Each error is
    ``{"index", "type", …}`` with type ``prev_hash_mismatch``, ``record_hash_mismatch`` or ``missing_record_hash``,
    after which nothing further can be checked. ``expected_head``: the hash that the last row had when somebody last
    looked; it must stand somewhere in the chain (``head_hash_missing``: the tail was cut, or the ledger written anew).
    ``expected_count``: how many rows there were at least (``rows_missing``).
    """
    errors: list[JsonDict] = []
    computed: str | None = None
    before: str | None = None
    for index, record in enumerate(records):
        stored = record.get("record_hash")
        if not isinstance(stored, str) or not stored:
            errors.append({"index": index, "type": "missing_record_hash"})
            break
        named, computed = _hashes(record)
        if named != before:
            errors.append(
                {
                    "index": index,
                    "type": "prev_hash_mismatch",
                    "expected_prev_hash": before,
                    "actual_prev_hash": named,
                }
            )
        if computed != stored:
            errors.append({"index": index, "type": "record_hash_mismatch", "stored": stored, "computed": computed})
        before = stored
    errors += _anchor_errors(records, expected_head, expected_count)
    bad = [place for error in errors if isinstance(place := error["index"], int)]
    head = records[-1].get("record_hash") if records else None
    return {
        "ok": not errors,
        "count": len(records),
        "errors": [*errors],
        "first_bad_index": min(bad, default=None),
        "head_hash": head,
        "computed_head_hash": computed,
    }


def _hashes(record: Mapping[str, JsonValue]) -> tuple[str | None, str]:
    """The hash that a row names as the one before it, and its own as computed."""
    header = record.get("header")
    if isinstance(header, str):
        return _named_by(header), _sha256(header)
    named = record.get("prev_hash")
    prev_hash = named if isinstance(named, str) else None
    return prev_hash, compute_record_hash(record=record, prev_hash=prev_hash)


def _named_by(header: str) -> str | None:
    try:
        fields = json.loads(header)
    except ValueError:
        return None
    named = fields.get("prev") if isinstance(fields, dict) else None
    # A ledger's first record follows the empty hash, which 0.2 wrote as null.
    return named if isinstance(named, str) and named else None


def _anchor_errors(
    records: Sequence[Mapping[str, JsonValue]], expected_head: str | None, expected_count: int | None
) -> list[JsonDict]:
    errors: list[JsonDict] = []
    if expected_count is not None and len(records) < expected_count:
        errors.append({"index": len(records), "type": "rows_missing", "expected": expected_count})
    if expected_head is not None and all(record.get("record_hash") != expected_head for record in records):
        errors.append({"index": max(len(records) - 1, 0), "type": "head_hash_missing", "expected": expected_head})
    return errors


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""A record: two text lines, a header that is hashed and the values it names by digest.

The bytes are specified in `docs/reference/record-format.md`. Line 1 is the header, canonical JSON (sorted keys, no
floats). Line 2 holds ``record_hash`` (SHA-256 of line 1), ``signature`` where there is one, and the values as
``[salt, value]``. The header names each value as ``[type, length, digest]`` with digest = SHA-256(salt bytes ‖ value
bytes), so a value can be erased or moved elsewhere and header and chain still stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import cast

import msgspec
from msgspec import Raw, Struct

from ..errors import FormatTooNew, LedgerCorrupt
from ..models import JsonDict, JsonValue
from .values import ERASED, decode

FORMAT = 1
"""The record format that this version writes, and the newest it reads."""

SALT_BYTES = 16
_canonical = msgspec.json.Encoder(order="sorted")


class _Tail(Struct, frozen=True):
    record_hash: str
    signature: str | None = None
    values: tuple[Raw, ...] = ()


_header_decoder = msgspec.json.Decoder(dict)
_tail_decoder = msgspec.json.Decoder(_Tail)
_entry_decoder = msgspec.json.Decoder(tuple[Raw, ...] | None)

_LETTERS: dict[type, str] = {dict: "o", list: "a", str: "s", int: "n", float: "n", bool: "b", type(None): "z"}


class OpenedRecord(Struct, frozen=True):
    """A record read back. ``values`` are those of the header, in its order; an erased one is its marker."""

    header: JsonDict
    values: list[JsonValue]
    record_hash: str
    signature: str | None = None


def seal(header: JsonDict, values: Sequence[bytes], kinds: Sequence[JsonValue], salts: bytes) -> tuple[bytes, str]:
    """The record's bytes and its hash.

    ``values``: stored bytes of each value; ``kinds``: the values themselves, for type and length; ``salts``: 16 random
    bytes for each. ``header`` gets its ``values`` entry here.
    """
    if values:
        described: list[JsonValue] = []
        entries: list[bytes] = []
        for index, data in enumerate(values):
            salt = salts[index * SALT_BYTES : (index + 1) * SALT_BYTES]
            value = kinds[index]
            length = len(value) if isinstance(value, (dict, list, str)) else 0
            described.append([_LETTERS[type(value)], length, sha256(salt + data).hexdigest()])
            entries.append(b'["%b",%b]' % (salt.hex().encode(), data))
        header["values"] = described
        line = _canonical.encode(header)
        record_hash = sha256(line).hexdigest()
        tail = b'{"record_hash":"%b","values":[%b]}' % (record_hash.encode(), b",".join(entries))
    else:
        line = _canonical.encode(header)
        record_hash = sha256(line).hexdigest()
        tail = b'{"record_hash":"%b"}' % record_hash.encode()
    return b"%b\n%b\n" % (line, tail), record_hash


def open_record(data: bytes) -> OpenedRecord:
    """Read a record and prove it against its own hash and digests.

    Raises `LedgerCorrupt` naming what does not fit, `FormatTooNew` for a format this version cannot read.
    """
    line, separator, rest = data.partition(b"\n")
    if not separator or not rest.endswith(b"\n"):
        raise LedgerCorrupt(f"a record is two lines, this is not: {data[:80]!r}")
    try:
        header = cast(JsonDict, _header_decoder.decode(line))
        tail = _tail_decoder.decode(rest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LedgerCorrupt(f"a record that is no JSON: {error}: {data[:80]!r}") from None
    version = header.get("v")
    if not isinstance(version, int) or version < 1:
        raise LedgerCorrupt(f"a record without a format version: {data[:80]!r}")
    if version > FORMAT:
        raise FormatTooNew(
            f"a record of format {version}; this version reads up to {FORMAT}",
            hint="upgrade abstractruntime on this machine",
            format=version,
        )
    if sha256(line).hexdigest() != tail.record_hash:
        raise LedgerCorrupt(f"record {_name(header)} does not have the hash it claims", seq=header.get("seq"))
    return OpenedRecord(header, _open_values(header, tail), tail.record_hash, tail.signature)


def _open_values(header: JsonDict, tail: _Tail) -> list[JsonValue]:
    described = cast("list[list[JsonValue]]", header.get("values", []))
    if len(described) != len(tail.values):
        raise LedgerCorrupt(
            f"record {_name(header)} names {len(described)} values and holds {len(tail.values)}", seq=header.get("seq")
        )
    opened: list[JsonValue] = []
    for (letter, length, digest), raw in zip(described, tail.values, strict=True):
        entry = _entry_decoder.decode(raw)
        if entry is None:
            opened.append(_marker(cast(str, letter), cast(int, length), cast(str, digest)))
            continue
        if len(entry) != 2:
            raise LedgerCorrupt(
                f"record {_name(header)} keeps a value in an artifact, which this store has not", seq=header.get("seq")
            )
        salt, data = bytes.fromhex(cast(str, decode(bytes(entry[0])))), bytes(entry[1])
        if sha256(salt + data).hexdigest() != digest:
            raise LedgerCorrupt(f"a value of record {_name(header)} does not have its digest", seq=header.get("seq"))
        opened.append(decode(data))
    return opened


def _marker(letter: str, length: int, digest: str) -> JsonValue:
    """What an erased value folds to: a list of n elements to n markers, anything else to one."""
    marker: JsonValue = {ERASED: digest}
    return [{ERASED: digest} for _ in range(length)] if letter == "a" else marker


def _name(header: JsonDict) -> str:
    return f"{header.get('seq')} of run {header.get('run')}"


def header_line(data: bytes) -> str:
    """The hashed text of a stored record."""
    return data.partition(b"\n")[0].decode()


def digest_of(data: bytes) -> str:
    """SHA-256 as hex: of a checkpoint's bytes, which stay inside the store and need no salt."""
    return sha256(data).hexdigest()

"""JSON values: what may be stored, as which bytes, and when two are the same."""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, isfinite
from typing import cast

import msgspec

from ..errors import InvalidValue, LedgerCorrupt
from ..models import JsonDict, JsonValue

MAX_DEPTH = 100
"""How deep containers may nest. Readers of other languages stop at about that depth too."""

ERASED = "$erased"

_INT_BOUND = 1 << 4096
"""Beyond it readers refuse a number's digits: CPython stops at 4,300 of them."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def encode(value: object) -> bytes:
    """The stored form: UTF-8 JSON, keys in their order, no spaces. ``value`` must have passed `plain`."""
    return _encoder.encode(value)


def decode(data: bytes) -> JsonValue:
    """The value of stored bytes. Raises `LedgerCorrupt`."""
    try:
        return cast(JsonValue, _decoder.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LedgerCorrupt(f"stored value is no JSON: {error}") from None


def plain(value: object, name: str, *, depth: int = 0) -> JsonValue:
    """A copy of ``value`` made of dict, list, str, int, float, bool and None only, equal to what a restart reads back.

    Tuples become lists, drafts become plain containers, text and number subclasses (enums) become plain ones. Raises
    `InvalidValue` naming the path from ``name`` for NaN, infinities, keys that are no text, lone surrogates, bytes,
    dates, sets and all other objects, for what nests too deep and for whole numbers of more than 1,233 digits.
    ``depth``: how many containers it will stand in.
    """
    try:
        return _plain(value, depth)
    except _Refused as refused:
        path = name + "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in reversed(refused.path))
        raise InvalidValue(f"{path} {refused.reason}", hint=refused.hint, path=path) from None


class _Refused(Exception):
    def __init__(self, reason: str, hint: str) -> None:
        self.reason = reason
        self.hint = hint
        self.path: list[str | int] = []


def _plain(value: object, depth: int) -> JsonValue:
    kind = type(value)
    if kind is str:
        text = cast(str, value)
        if not text.isascii():
            _check_text(text)
        return text
    if kind is int:
        return _bounded(cast(int, value))
    if kind is bool or value is None:
        return cast("bool | None", value)
    if kind is float:
        if not isfinite(cast(float, value)):
            raise _Refused(f"is {value}, which JSON cannot hold", "use None, a number, or text")
        return cast(float, value)
    if isinstance(value, dict):
        return _plain_dict(value, depth + 1)
    if isinstance(value, (list, tuple)):
        return _plain_list(value, depth + 1)
    return _plain_other(value, depth)


def _plain_dict(value: dict[object, object], depth: int) -> JsonDict:
    if depth > MAX_DEPTH:
        raise _too_deep()
    result: JsonDict = {}
    key: object = None
    try:
        for key, child in dict.items(value):
            if type(key) is str and key.isascii():
                result[key] = _plain(child, depth)
            else:
                result[_plain_key(key)] = _plain(child, depth)
    except _Refused as refused:
        refused.path.append(str(key))
        raise
    if ERASED in result and not is_erased(result):
        raise _Refused(f"has the key {ERASED!r}, which is reserved for values that were erased", "name it otherwise")
    return result


def is_erased(value: JsonValue) -> bool:
    """Whether this is what an erased value folds to: ``{"$erased": digest}``."""
    if type(value) is not dict or len(value) != 1:
        return False
    digest = value.get(ERASED)
    return type(digest) is str and len(digest) == 64


def _plain_list(value: list[object] | tuple[object, ...], depth: int) -> list[JsonValue]:
    if depth > MAX_DEPTH:
        raise _too_deep()
    result: list[JsonValue] = []
    try:
        for child in value:
            result.append(_plain(child, depth))  # noqa: PERF401  # its length names the element that is refused
    except _Refused as refused:
        refused.path.append(len(result))
        raise
    return result


def plain_key(key: object, parents: Sequence[str | int]) -> str:
    """A key that is new in ``vars``, below ``parents``. Raises `InvalidValue` with the path of one that is no text."""
    if type(key) is str and key.isascii():
        return key
    try:
        return _plain_key(key)
    except _Refused as refused:
        path = "vars" + "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in parents)
        raise InvalidValue(f"{path}.{key!r} {refused.reason}", hint=refused.hint, path=f"{path}.{key!r}") from None


def _plain_key(key: object) -> str:
    if isinstance(key, str):
        text = str.__str__(key)
        _check_text(text)
        return text
    raise _Refused(f"is a key of type {type(key).__name__}", "keys must be text: JSON has no others")


def _plain_other(value: object, depth: int) -> JsonValue:
    if isinstance(value, str):
        return _plain(str.__str__(value), depth)
    if isinstance(value, int):
        return _bounded(int(value))
    if isinstance(value, float):
        return _plain(float(value), depth)
    hints = {
        "bytes": "store base64 text, or an artifact",
        "set": "store a sorted list",
        "datetime": "store .isoformat() text",
        "date": "store .isoformat() text",
    }
    kind = type(value).__name__
    raise _Refused(
        f"is a {kind}, which JSON cannot hold", hints.get(kind, "store what it is made of: text, numbers, lists, dicts")
    )


def _bounded(number: int) -> int:
    if -_INT_BOUND < number < _INT_BOUND:
        return number
    raise _Refused("is a whole number of more than 1,233 digits", "store it as text")


def check_depth(value: object, name: str, depth: int) -> None:
    """Raise `InvalidValue` where a value that is plain already would nest too deep inside ``depth`` containers."""
    if depth + _levels(value) > MAX_DEPTH:
        refused = _too_deep()
        raise InvalidValue(f"{name} {refused.reason}", hint=refused.hint, path=name)


def _levels(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_levels, dict.values(value)), default=0)
    if isinstance(value, list):
        return 1 + max(map(_levels, value), default=0)
    return 0


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Refused("holds a lone surrogate, which is no text", "decode the bytes with errors='replace'") from None


def _too_deep() -> _Refused:
    return _Refused(f"nests deeper than {MAX_DEPTH} levels, or contains itself", "flatten it")


def thaw(value: JsonValue) -> JsonValue:
    """A deep copy of a value that is plain already."""
    kind = type(value)
    if kind is dict:
        return {key: child if type(child) in _LEAVES else thaw(child) for key, child in cast(JsonDict, value).items()}
    if kind is list:
        return [child if type(child) in _LEAVES else thaw(child) for child in cast("list[JsonValue]", value)]
    return value


_LEAVES = frozenset((str, int, float, bool, type(None)))


def same(one: object, other: object) -> bool:
    """Whether two values have the same stored bytes. Stricter than ``==``: 1 is not true, 0.0 is not -0.0, and keys
    come in the same order."""
    if one is other:
        return True
    if isinstance(one, dict):
        return isinstance(other, dict) and _same_dicts(one, other)
    if isinstance(one, (list, tuple)):
        return (
            isinstance(other, (list, tuple))
            and len(one) == len(other)
            and all(same(a, b) for a, b in zip(one, other, strict=True))
        )
    if type(one) is not type(other) or one != other:
        return False
    return type(one) is not float or copysign(1.0, one) == copysign(1.0, cast(float, other))


def _same_dicts(one: dict[object, object], other: dict[object, object]) -> bool:
    if len(one) != len(other):
        return False
    pairs = zip(dict.items(one), dict.items(other), strict=True)
    return all(key == key2 and same(value, value2) for (key, value), (key2, value2) in pairs)

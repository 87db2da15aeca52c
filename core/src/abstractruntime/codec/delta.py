"""Deltas: what changed, as a list of path operations, and how they are applied.

==================================  ======================================================================
``["=", path, value]``              put ``value`` at ``path``
``["-", path]``                     remove it
``["+", path, items or text]``      append to the list or text there
``["~", path, at, delete, items]``  in the list there: remove ``delete`` elements at ``at``, put ``items`` there
==================================  ======================================================================

In a record an operand is an index into the record's values. Operations apply one after the other; what operands refer
to (`refs`) is taken from the state before the first of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_, ne
from typing import Any, TypeAlias, cast

from ..models import JsonDict, JsonValue
from .draft import DraftDict, DraftList, Path
from .values import is_erased, plain_key, same, thaw

Op: TypeAlias = list[Any]
"""An operation with its operand, or with the operand's index."""

Ref: TypeAlias = list[Any]
"""``[value, where, source]``: value number ``value`` has at ``where`` what the state has at ``source``.
``[value, where, source, start, stop]``: ``where`` ends in a list position; that slice of the list at ``source`` stands
there."""

MIN_APPEND_CHARS = 64
_MISSING = object()
_SCALARS = (str, int, bool)


def diff(origin: JsonDict, new: dict[str, Any]) -> list[Op]:
    """The operations that make ``new`` out of ``origin``. ``new``: usually the draft of ``origin``; any dict will do.

    Operands are the new values themselves, not yet copied or checked.
    """
    ops: list[Op] = []
    _diff_dict(origin, new, (), ops)
    return ops


def _unchanged(old: Any, new: Any) -> bool:
    """Whether nothing can have changed, told without looking inside."""
    if new is old:
        return True
    kind = type(new)
    return kind is type(old) and kind in _SCALARS and bool(new == old)


def _diff_value(old: Any, new: Any, path: Path, ops: list[Op]) -> None:
    """``old`` and ``new`` stand at the same place and are not the same object."""
    if isinstance(new, dict) and type(old) is dict:
        _replace_or(ops, path, new, _diff_dict, old)
    elif isinstance(new, (list, tuple)) and type(old) is list:
        _replace_or(ops, path, new, _diff_list, old)
    elif type(new) is str and type(old) is str and len(old) >= MIN_APPEND_CHARS and new.startswith(old):
        ops.append(["+", path, new[len(old) :]])
    elif not same(old, new):
        ops.append(["=", path, new])


def _replace_or(ops: list[Op], path: Path, new: Any, differ: Any, old: Any) -> None:
    """Many small operations on one container cost more than the container."""
    inner: list[Op] = []
    differ(old, new, path, inner)
    if len(inner) > 4 and len(inner) * 2 > len(new):
        ops.append(["=", path, new])
    else:
        ops.extend(inner)


def _diff_dict(old: JsonDict, new: dict[str, Any], path: Path, ops: list[Op]) -> None:
    if len(new) == len(old) and all(map(is_, dict.values(new), old.values())) and not any(map(ne, old, dict.keys(new))):
        return
    added = False
    for key, value in dict.items(new):
        before = old.get(key, _MISSING)
        if before is value:
            continue
        if before is _MISSING:
            ops.append(["=", (*path, plain_key(key, path)), value])
            added = True
        elif not _unchanged(before, value):
            _diff_value(before, value, (*path, key), ops)
    if len(new) != len(old) or added:
        ops.extend(["-", (*path, key)] for key in old if key not in new)
    if any(map(ne, old, dict.keys(new))):
        _mend_order(old, new, path, ops)


def _mend_order(old: JsonDict, new: dict[str, Any], path: Path, ops: list[Op]) -> None:
    """Keys keep their order of insertion: where it changed, those that moved are removed and put again."""
    wanted = list(dict.__iter__(new))
    result = [key for key in old if key in new]
    result += [key for key in wanted if key not in old]
    if wanted == result:
        return
    kept = 0
    while wanted[kept] == result[kept]:
        kept += 1
    moved = wanted[kept:]
    again = set(moved)
    ops[:] = [
        op for op in ops if not (len(op[1]) > len(path) and op[1][: len(path)] == path and op[1][len(path)] in again)
    ]
    ops.extend(["-", (*path, key)] for key in moved if key in old)
    ops.extend(["=", (*path, key), dict.__getitem__(new, key)] for key in moved)


def _linked(old: Any, new: Any) -> bool:
    """Whether a list element is the old one, perhaps changed inside."""
    if new is old:
        return True
    if isinstance(new, (DraftDict, DraftList)):
        return new.origin is old
    return same(old, new)


def _diff_list(old: list[Any], new: Sequence[Any], path: Path, ops: list[Op]) -> None:
    at = start = 0  # position in the list as it becomes, and in the old one
    stop, end = len(old), len(new)
    splices: list[Op] = []
    while True:
        while start < stop and at < end and _linked(old[start], new[at]):
            _diff_element(old[start], new[at], (*path, start), ops)
            start += 1
            at += 1
        if at == end or start == stop:
            break
        skipped = _find_linked(old, start + 1, stop, new[at])
        if skipped is None:
            break
        splices.append(["~", path, at, skipped - start, []])
        start = skipped
    while start < stop and at < end and _linked(old[stop - 1], new[end - 1]):
        stop -= 1
        end -= 1
        _diff_element(old[stop], new[end], (*path, stop), ops)
    if start == len(old) and at < end:
        splices.append(["+", path, list(new[at:end])])
    elif stop - start == end - at and not splices:
        for index in range(stop - start):
            _diff_value(old[start + index], new[at + index], (*path, start + index), ops)
    elif start < stop or at < end:
        splices.append(["~", path, at, stop - start, list(new[at:end])])
    ops.extend(splices)


def _diff_element(old: Any, new: Any, path: Path, ops: list[Op]) -> None:
    if new is not old and isinstance(new, (DraftDict, DraftList)):
        _diff_value(old, new, path, ops)


def _find_linked(old: list[Any], start: int, stop: int, element: Any) -> int | None:
    """Where the old list has this element, behind what was cut. Only for elements that have an identity."""
    if isinstance(element, (DraftDict, DraftList)):
        index = element.path[-1] if element.path else None
        if isinstance(index, int) and start <= index < stop and old[index] is element.origin:
            return index
        return None
    if isinstance(element, str) and len(element) >= MIN_APPEND_CHARS:
        return next((index for index in range(start, stop) if old[index] is element), None)
    return None


def at(tree: JsonValue, path: Sequence[str | int]) -> JsonValue:
    """What stands at ``path``; an erased marker on the way stands for all below it. Raises KeyError, IndexError."""
    node: Any = tree
    for part in path:
        if type(node) is dict:
            if part not in node and is_erased(node):
                return cast(JsonValue, node)
            node = node[part]
        elif type(node) is list and type(part) is int:
            node = node[part]
        else:
            raise KeyError(part)
    return cast(JsonValue, node)


def apply_ops(tree: JsonDict, ops: Sequence[Op], values: Sequence[JsonValue]) -> None:
    """Apply the operations of a record in place. ``values`` become part of the tree. Raises KeyError, IndexError."""
    for op in ops:
        code, path = op[0], op[1]
        if not path:  # only "=" replaces the whole
            tree.clear()
            tree.update(cast(JsonDict, values[op[2]]))
            continue
        parent: Any = at(tree, path[:-1]) if len(path) > 1 else tree
        if type(parent) is dict and path[-1] not in parent and is_erased(parent):
            continue  # an operation into what was erased leaves it erased
        key = path[-1]
        if code == "=":
            parent[key] = values[op[2]]
        elif code == "-":
            del parent[key]
        elif code == "+":
            parent[key] = _appended(parent[key], values[op[2]])
        elif code == "~":
            _splice(parent, key, op[2], op[3], values[op[4]])
        else:
            raise KeyError(f"operation {code!r}")


def _appended(old: Any, more: Any) -> Any:
    if is_erased(old):
        return old
    if type(old) is list:
        old.extend(more)
        return old
    return old + more if type(more) is str else more


def _splice(parent: Any, key: Any, start: int, delete: int, items: Any) -> None:
    target = parent[key]
    if is_erased(target):
        return
    target[start : start + delete] = items


def resolve_refs(tree: JsonDict, refs: Sequence[Ref], values: Sequence[JsonValue]) -> None:
    """Fill what the values leave out with copies from ``tree``, in place. ``values`` must be owned by the caller."""
    for ref in refs:
        index, where, source = ref[0], ref[1], ref[2]
        found = at(tree, source)
        holder: Any = values
        for part in (index, *where)[:-1]:
            holder = holder[part]
            if is_erased(holder):
                break
        last = where[-1] if where else index
        if is_erased(holder) or (not where and is_erased(values[index])):
            continue  # what the reference would fill in was erased
        if len(ref) == 3:
            holder[last] = thaw(found)
        else:
            start, stop = ref[3], ref[4]
            slice_ = found[start:stop] if type(found) is list else [found] * (stop - start)  # a marker for each erased
            holder[last:last] = cast("list[JsonValue]", thaw(slice_))


def set_dotted(tree: JsonDict, dotted: str, value: JsonValue) -> None:
    """Put ``value`` at a dotted path, making dicts as needed; what stands in the way and is no dict gives way, and what
    was erased stays erased."""
    *parents, last = dotted.split(".")
    node = tree
    for part in parents:
        child = node.get(part)
        if type(child) is not dict:
            child = node[part] = {}
        if is_erased(child):
            return
        node = child
    node[last] = value


def blocked_dotted(tree: JsonDict, dotted: str) -> str | None:
    """The first part of a dotted path that is there and no dict, so that nothing can stand below it."""
    node: Any = tree
    parts = dotted.split(".")
    for count, part in enumerate(parts[:-1], 1):
        node = node.get(part, _MISSING)
        if node is _MISSING:
            return None
        if not isinstance(node, dict):
            return ".".join(parts[:count])
    return None

"""Operands: how a new value is stored once.

Whatever part of a value stands in the folded state already is left out of the stored value and named by a reference: a
chat that is the payload of every call is stored when it grows, not when it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.json import Encoder

from ..models import JsonDict, JsonValue
from .delta import Ref
from .draft import DraftDict, DraftList, Path
from .values import check_depth, plain, same

MIN_TEXT_CHARS = 64
"""Shorter text is cheaper to repeat than to refer to."""

MIN_LIST_SEARCH = 4
_encode = Encoder().encode


class Finder:
    """Finds parts of values in a folded state.

    ``view``: the state that references are resolved against, or the draft that is equal to it. ``root``: the draft
    through which the node saw the state; only what it handed out is searched, since nothing else can have come from
    there. ``settled``: the draft's changes are in ``view`` already.
    """

    def __init__(self, view: dict[str, Any], root: DraftDict | None, *, settled: bool) -> None:
        self._view = view
        self._root = root
        self._settled = settled
        self._elements: dict[bytes, tuple[Path, int]] | None = None
        self._depth = 0

    def store(self, value: object, index: int, refs: list[Ref], name: str, *, depth: int = 0) -> JsonValue:
        """``value`` as it is stored as value number ``index``: a plain copy with parts left out, which ``refs`` name.

        ``depth``: how many containers it will stand in. Raises `InvalidValue` naming the path from ``name``.
        """
        self._depth = depth
        if self._root is None or not _worth_searching(value):
            return plain(value, name, depth=depth)
        return self._stored(value, index, (), refs, name)

    def _stored(self, value: object, index: int, where: Path, refs: list[Ref], name: str) -> JsonValue:
        depth = self._depth + len(where)
        if not _worth_searching(value):
            return plain(value, name, depth=depth)
        source = self._find(value)
        if source is not None:
            self._check_depth(value, name, depth)
            refs.append([index, list(where), list(source)])
            return None
        if isinstance(value, dict):
            stored: JsonDict = {}
            for key, child in dict.items(value):
                if type(key) is not str:
                    return plain(value, name, depth=depth)
                stored[key] = self._stored(child, index, (*where, key), refs, f"{name}.{key}")
            plain(dict.fromkeys(stored), name)  # the keys
            return stored
        if isinstance(value, (list, tuple)):
            return self._stored_list(value, index, where, refs, name)
        return plain(value, name, depth=depth)

    def _stored_list(
        self, value: Sequence[Any], index: int, where: Path, refs: list[Ref], name: str
    ) -> list[JsonValue]:
        stored: list[JsonValue] = []
        slices: list[tuple[int, Path, int, int]] = []  # position in the finished list, source, start, stop
        inner: list[Ref] = []
        position = 0
        while position < len(value):
            run = self._run(value, position)
            if run is not None:
                source, start, stop = run
                self._check_depth(list(value[position : position + stop - start]), name, self._depth + len(where))
                slices.append((position, source, start, stop))
                position += stop - start
                continue
            # where inside a list: the position in the list as it is before the slices stand in it
            stored.append(self._stored(value[position], index, (*where, len(stored)), inner, f"{name}[{position}]"))
            position += 1
        refs.extend(inner)
        refs.extend([index, [*where, position], list(source), start, stop] for position, source, start, stop in slices)
        return stored

    def _check_depth(self, value: object, name: str, depth: int) -> None:
        # What a reference names was checked where it stands, not where it will stand: wrapped anew each step, ``vars``
        # would grow deeper than anybody can read. A payload is not put into ``vars``.
        if not self._settled:
            check_depth(value, name, depth)

    def _run(self, value: Sequence[Any], position: int) -> tuple[Path, int, int] | None:
        """The longest slice of a list of the state that stands in ``value`` from ``position`` on."""
        found = self._element(value[position], len(value))
        if found is None:
            return None
        source, start = found
        there = self._there(source)
        if not isinstance(there, list):
            return None
        stop = start
        while (
            position < len(value) and stop < len(there) and self._equals(value[position], there[stop], (*source, stop))
        ):
            stop += 1
            position += 1
        return (source, start, stop) if stop > start else None

    def _equals(self, value: Any, there: Any, path: Path) -> bool:
        if self._settled and isinstance(value, (DraftDict, DraftList)) and value.path == path and self._attached(value):
            return True
        return same(value, there)

    def _element(self, value: Any, width: int) -> tuple[Path, int] | None:
        """Where a list of the state has ``value`` as an element."""
        if isinstance(value, (DraftDict, DraftList)):
            index = value.path[-1] if value.path else None
            if isinstance(index, int) and self._same_at(value, value.path):
                return value.path[:-1], index
        if not isinstance(value, (dict, list)) and not (type(value) is str and len(value) >= MIN_TEXT_CHARS):
            return None
        if width < MIN_LIST_SEARCH:
            return None
        if self._elements is None:
            self._elements = self._index_elements()
        if not self._elements:
            return None
        try:
            return self._elements.get(_encode(value))
        except (TypeError, ValueError, RecursionError):
            return None  # no JSON: storing it says so, with its path

    def _index_elements(self) -> dict[bytes, tuple[Path, int]]:
        found: dict[bytes, tuple[Path, int]] = {}
        for draft in self._handed_out():
            if isinstance(draft, DraftList):
                there = self._there(draft.path)
                if isinstance(there, list) and len(there) >= MIN_LIST_SEARCH:
                    for index in range(len(there) - 1, -1, -1):
                        if isinstance(there[index], (dict, list)):
                            found[_encode(there[index])] = (draft.path, index)
        return found

    def _find(self, value: object) -> Path | None:
        if isinstance(value, (DraftDict, DraftList)):
            return value.path if self._same_at(value, value.path) else None
        return self._find_text(value) if type(value) is str else None

    def _find_text(self, text: str) -> Path | None:
        """Where a text stands that was handed out: what was handed out last is looked at first."""
        for draft in reversed(self._handed_out()):
            there = draft if self._settled else draft.origin
            if text not in (dict.values(there) if isinstance(there, dict) else there):
                continue
            if self._settled and not self._attached(draft):
                continue
            pairs = dict.items(there) if isinstance(there, dict) else enumerate(there)
            return (*draft.path, next(key for key, child in pairs if child == text))
        return None

    def _same_at(self, draft: DraftDict | DraftList, path: Path) -> bool:
        if self._settled and self._attached(draft):
            return True
        return same(draft, self._there(path))

    def _attached(self, draft: DraftDict | DraftList) -> bool:
        """Whether the draft still stands where its origin stood."""
        return _at(self._root, draft.path) is draft

    def _handed_out(self) -> list[DraftDict | DraftList]:
        return [] if self._root is None else self._root.registry

    def _there(self, path: Path) -> Any:
        return _at(self._view, path)


def _at(tree: object, path: Path) -> Any:
    """What stands at ``path`` in a state or a draft, without handing anything out; None if nothing does."""
    node: Any = tree
    for part in path:
        if isinstance(node, dict):
            node = dict.get(node, part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            return None
    return node


def _worth_searching(value: object) -> bool:
    """Whether a reference could be shorter than the value."""
    if type(value) is str:
        return len(value) >= MIN_TEXT_CHARS
    if isinstance(value, dict):
        return len(value) > 3 or any(map(_worth_searching, dict.values(value)))
    if isinstance(value, (list, tuple)):
        return len(value) > 3 or any(map(_worth_searching, value))
    return False

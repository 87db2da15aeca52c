"""Drafts: what a node works on.

A draft looks like the dict or list it was taken from (its ``origin``, part of the folded state), copied one level at a
time as it is read, so that a step pays for what it touches. Nothing is tracked while the node runs: afterwards each
container that was handed out is compared with its origin (`delta.diff`), so changes made behind the back of any
tracking (``heapq``, C extensions) are seen too.

Dicts hand out children on access; in between, their raw children are only reachable through C functions that read.
Lists wrap their children at once, since ``heapq`` and others take elements out of a list without asking it.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, ValuesView
from typing import Any, SupportsIndex, TypeAlias

from .values import thaw

Path: TypeAlias = "tuple[str | int, ...]"


class DraftDict(dict[str, Any]):
    """A dict to change freely. ``path``: where its origin stands in the folded state."""

    __slots__ = ("origin", "path", "registry")

    def __init__(self, origin: dict[str, Any], path: Path, registry: list[DraftDict | DraftList]) -> None:
        dict.__init__(self, origin)
        self.origin = origin
        self.path = path
        self.registry = registry
        registry.append(self)

    def _handed(self, key: str, value: Any) -> Any:
        kind = type(value)
        if (kind is not dict and kind is not list) or self.origin.get(key) is not value:
            return value
        make: Any = DraftDict if kind is dict else DraftList
        draft = make(value, (*self.path, key), self.registry)
        dict.__setitem__(self, key, draft)
        return draft

    def _hand_out_all(self) -> None:
        for key, value in dict.items(self):
            kind = type(value)
            if kind is dict or kind is list:
                self._handed(key, value)

    def __getitem__(self, key: str) -> Any:
        return self._handed(key, dict.__getitem__(self, key))

    def get(self, key: str, default: Any = None) -> Any:
        value = dict.get(self, key, default)
        return self._handed(key, value) if key in self else value

    def setdefault(self, key: str, default: Any = None) -> Any:
        return self._handed(key, dict.setdefault(self, key, default))

    def pop(self, key: str, *default: Any) -> Any:
        if key in self:
            self[key]
        return dict.pop(self, key, *default)

    def popitem(self) -> tuple[str, Any]:
        if self:
            self[next(reversed(self))]
        return dict.popitem(self)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]  # typeshed says dict_values, which cannot be named
        self._hand_out_all()
        return dict.values(self)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]  # typeshed says dict_items, which cannot be named
        self._hand_out_all()
        return dict.items(self)

    # With an __iter__ of its own CPython copies ({**draft}, dict(draft)) through keys() and __getitem__.
    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self)

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    __copy__ = copy

    def __deepcopy__(self, memo: object) -> object:
        return _detached(self)

    def __or__(self, other: Any) -> Any:
        return self.copy() | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return other | self.copy() if isinstance(other, dict) else NotImplemented

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return (dict, (_detached(self),))


class DraftList(list[Any]):
    """A list to change freely. ``path``: where its origin stands in the folded state."""

    __slots__ = ("origin", "path", "registry")

    def __init__(self, origin: list[Any], path: Path, registry: list[DraftDict | DraftList]) -> None:
        list.__init__(self, _wrapped(origin, path, registry))
        self.origin = origin
        self.path = path
        self.registry = registry
        registry.append(self)

    def __deepcopy__(self, memo: object) -> object:
        return _detached(self)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return (list, (_detached(self),))


def _wrapped(origin: list[Any], path: Path, registry: list[DraftDict | DraftList]) -> Iterable[Any]:
    for index, value in enumerate(origin):
        kind = type(value)
        if kind is dict:
            yield DraftDict(value, (*path, index), registry)
        elif kind is list:
            yield DraftList(value, (*path, index), registry)
        else:
            yield value


def _detached(draft: Any) -> Any:
    """A deep copy without drafts in it; what is no JSON in it is shared."""
    if isinstance(draft, DraftDict):
        return {key: _detached(value) for key, value in dict.items(draft)}
    if isinstance(draft, DraftList):
        return [_detached(value) for value in draft]
    return thaw(draft)


def draft_of(origin: dict[str, Any]) -> DraftDict:
    """A draft of a whole state."""
    return DraftDict(origin, (), [])

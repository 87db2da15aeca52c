"""Which run is meant, by its id or the first characters of one, and what the store says of it."""

from __future__ import annotations

from abstractruntime.errors import UnknownRun, UsageError
from abstractruntime.models import RunState
from abstractruntime.store.contract import RunHead, RunQuery, Store

MIN_PREFIX = 4
_LISTED = 5
_PAGE = 1000


def find_run_id(store: Store, text: str) -> str:
    """The id of the run that ``text`` names: an id as it is, or at least 4 first characters that only one id has.

    Raises `UnknownRun`, or `UsageError` where several ids begin like that.
    """
    if next(iter(store.ledger(text, limit=1)), None) is not None:
        return text
    if len(text) < MIN_PREFIX:
        raise UnknownRun(
            f"no run {text!r} in this store",
            hint=f"give the whole id, or its first {MIN_PREFIX} characters or more; `art runs` lists the runs",
            run_id=text,
        )
    found = _ids_beginning_with(store, text)
    if not found:
        raise UnknownRun(
            f"no run {text!r} in this store, and none that begins like that",
            hint="`art runs` lists the runs",
            run_id=text,
        )
    if len(found) > 1:
        shown = ", ".join(found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
        raise UsageError(f"{text!r} is the beginning of several runs: {shown}", hint="give more of the id", run_id=text)
    return found[0]


def head_of(store: Store, state: RunState) -> RunHead:
    """The store's part of a run whose state was just read. Raises `UnknownRun` if it was deleted since."""
    stored = store.load(state.run_id, after=state.length)
    if stored is None:
        raise UnknownRun(
            f"run {state.run_id} was deleted", hint="`art runs` lists those there are", run_id=state.run_id
        )
    return stored.head


def _ids_beginning_with(store: Store, prefix: str) -> list[str]:
    """Up to six of them. The heads are read in the order of their ids, as far as the prefix."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = store.find(RunQuery(order="id", limit=_PAGE, cursor=cursor))
        for head in page.items:
            if head.run_id.startswith(prefix):
                found.append(head.run_id)
            elif head.run_id > prefix:
                return found
            if len(found) > _LISTED:
                return found
        if page.cursor is None:
            return found
        cursor = page.cursor

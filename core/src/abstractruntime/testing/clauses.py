"""Clauses: the sentences of a contract, each with an id and the test that proves it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

Test = TypeVar("Test", bound=Callable[..., None])

_ID = re.compile(r"[A-Z]-[A-Z]+-\d+")


class Clause(NamedTuple):
    """One sentence of a contract. ``test``: the name of the method that proves it."""

    id: str
    sentence: str
    test: str


def clause(clause_id: str) -> Callable[[Test], Test]:
    """Mark a test as the proof of a clause. Its docstring is the sentence."""

    def mark(test: Test) -> Test:
        if not _ID.fullmatch(clause_id) or not test.__doc__:
            raise ValueError(f"{test.__qualname__}: a clause has an id like S-COMMIT-1 and its sentence as docstring")
        test.clause_id = clause_id  # type: ignore[attr-defined] # read by `clauses_of` alone
        return test

    return mark


def clauses_of(kit: type) -> dict[str, Clause]:
    """The clauses that a kit proves, by id, sorted. Raises `ValueError` where two tests have one id."""
    found: dict[str, Clause] = {}
    for name, test in inspect.getmembers(kit, inspect.isfunction):
        clause_id = getattr(test, "clause_id", None)
        if clause_id is None:
            continue
        if clause_id in found:
            raise ValueError(f"{clause_id} is proved by {found[clause_id].test} and by {name}")
        found[clause_id] = Clause(clause_id, " ".join((test.__doc__ or "").split()), name)
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _order(clause_id: str) -> tuple[str, int]:
    subject, _, number = clause_id.rpartition("-")
    return subject, int(number)

"""The ledger folded into a state: the only place where the state of a run is computed. Pure.

A run is its ledger: `fold` reads records one after the other into a `Folded` state. A `Journal` holds such a state and
writes further records: each is sealed under the hash of the one before and folded by the same code that reads it back,
so a run that lives and a run that is replayed cannot differ.

The kinds of records and their fields are specified in `docs/reference/record-format.md`.
"""

from .kinds import FOLDS, Header, whole_payload
from .ledger import Journal, fold, fold_record, open_checkpoint
from .state import Decision, Folded, Wait

__all__ = [
    "FOLDS",
    "Decision",
    "Folded",
    "Header",
    "Journal",
    "Wait",
    "fold",
    "fold_record",
    "open_checkpoint",
    "whole_payload",
]

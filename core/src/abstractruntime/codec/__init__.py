"""Values to bytes and back: JSON text, records, drafts and the deltas between them. Pure."""

from .delta import Op, Ref, apply_ops, diff, set_dotted
from .draft import DraftDict, DraftList, draft_of
from .record import FORMAT, OpenedRecord, open_record, seal
from .values import decode, encode, plain, same, thaw

__all__ = [
    "FORMAT",
    "DraftDict",
    "DraftList",
    "Op",
    "OpenedRecord",
    "Ref",
    "apply_ops",
    "decode",
    "diff",
    "draft_of",
    "encode",
    "open_record",
    "plain",
    "same",
    "seal",
    "set_dotted",
    "thaw",
]

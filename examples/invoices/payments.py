"""The payments file: one line of JSON per payment, appended and never changed. It stands for a bank."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One line of the file. `key` is the idempotency key under which it was asked for."""

    key: str
    run_id: str
    file: str
    vendor: str
    total: str
    currency: str
    due_date: str | None


class PaymentsFile:
    """Payments in a file at `path`, safe for several processes.

    It does not look for doubles when it records: that a payment is made once is what the runtime promises, and the
    file is there to prove it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, payment: Payment) -> None:
        """Append a payment. When this returns it survives the loss of power."""
        line = json.dumps({name: getattr(payment, name) for name in Payment.__slots__}, ensure_ascii=False) + "\n"
        with self._locked() as descriptor:
            self._cut_torn_line(descriptor)
            os.write(descriptor, line.encode())
            os.fsync(descriptor)

    def find(self, key: str) -> Payment | None:
        """Return the payment that was recorded under `key`."""
        return next((payment for payment in self.all() if payment.key == key), None)

    def all(self) -> list[Payment]:
        """Return every payment, oldest first. A last line without its end was never recorded."""
        try:
            lines = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [Payment(**json.loads(line)) for line in lines]

    @contextmanager
    def _locked(self) -> Iterator[int]:
        created = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if created:
                _sync_folder(self.path.parent)
            yield descriptor
        finally:
            os.close(descriptor)

    def _cut_torn_line(self, descriptor: int) -> None:
        """A writer that was killed inside its write left half a line; the next one must not be glued to it."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.ftruncate(descriptor, whole)

    def __repr__(self) -> str:
        return f"PaymentsFile({str(self.path)!r})"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Clauses of `Store.load` and `Store.ledger`: what was committed comes back, byte for byte, in one consistent look."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from msgspec import structs

from ...models import Instant
from ...store.contract import Checkpoint, RunQuery
from ..clauses import clause
from ..writer import message_to
from .place import StorePlace

ALL_BYTES = bytes(range(256))


class ReadClauses:
    """A run is what its commits said, and nothing else."""

    @clause("S-LOAD-1")
    def test_an_unknown_run_is_none(self, place: StorePlace) -> None:
        """There is nothing to load of a run that does not exist."""
        place.run("known")
        assert place.store.load("unknown") is None
        assert place.store.load("know") is None

    @clause("S-LOAD-2")
    def test_only_what_is_newer_is_loaded(self, place: StorePlace) -> None:
        """``after`` leaves out as many records as it says, whatever commits they came in; the head is always there."""
        writer = place.run()
        writer.write("a", "b", "c")
        writer.write("d")
        everything = writer.stored().records
        assert len(everything) == 5
        for after in range(6):
            stored = writer.stored(after=after)
            assert stored.records == everything[after:]
            assert stored.head == writer.head()

    @clause("S-LOAD-3")
    def test_a_checkpoint_stands_for_the_records_before_it(self, place: StorePlace) -> None:
        """``load`` gives the newest checkpoint and the records that follow it; who is as far already gets none."""
        writer = place.run()
        writer.write("a", "b")
        writer.write("c", checkpoint=Checkpoint(length=3, state=ALL_BYTES))
        writer.write("d")
        everything = tuple(place.store.ledger(writer.run_id))
        for after in (0, 2):
            stored = writer.stored(after=after)
            assert stored.checkpoint == Checkpoint(length=3, state=ALL_BYTES)
            assert stored.records == everything[3:]
        for after in (3, 4):
            stored = writer.stored(after=after)
            assert (stored.checkpoint, stored.records) == (None, everything[after:])

    @clause("S-LOAD-4")
    def test_a_checkpoint_replaces_the_one_before(self, place: StorePlace) -> None:
        """Only the newest checkpoint is kept, smaller or larger than the one before; the ledger keeps all records."""
        writer = place.run()
        for number, size in enumerate((10, 300_000, 5)):
            checkpoint = Checkpoint(length=number + 2, state=b"s" * size)
            writer.write(f"record {number}", checkpoint=checkpoint)
            assert writer.stored().checkpoint == checkpoint
        assert len(list(place.store.ledger(writer.run_id))) == 4

    @clause("S-LOAD-5")
    def test_what_was_loaded_stays_as_it_is(self, place: StorePlace) -> None:
        """What a call returned is the caller's: later commits and deliveries do not show in it."""
        writer = place.run()
        place.store.deliver([message_to(writer.run_id, "m1")])
        stored, page = writer.stored(), place.store.find(RunQuery(limit=1000))
        copies = structs.replace(stored), structs.replace(page)
        lengths = (len(stored.records), len(stored.messages), len(page.items))
        writer.write("later", consumed=("m1",), outbox=(message_to("other"),))
        place.store.deliver([message_to(writer.run_id, "m2", seq=2)])
        place.run()
        assert (stored, page) == copies
        assert (len(stored.records), len(stored.messages), len(page.items)) == lengths == (1, 1, 1)
        assert (stored.head.length, len(stored.outbox)) == (1, 0)

    @clause("S-LOAD-6")
    def test_a_look_is_consistent(self, place: StorePlace) -> None:
        """While another thread commits, head, checkpoint and records of each look belong together."""
        writer = place.run()
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set() and writer.fence.length < 20_000:
                length = writer.fence.length + 2
                checkpoint = Checkpoint(length=length, state=b"%d" % length) if length % 6 == 1 else None
                writer.write("a", "b", checkpoint=checkpoint, wake_at=Instant(length))

        with ThreadPoolExecutor(1) as pool:
            written = pool.submit(write)
            try:
                for _ in range(200):
                    stored = writer.stored()
                    start = stored.checkpoint.length if stored.checkpoint else 0
                    assert start + len(stored.records) == stored.head.length
                    assert stored.checkpoint is None or stored.checkpoint.state == b"%d" % start
                    assert stored.head.length in {1, stored.head.wake_at}
            finally:
                stop.set()
            written.result()

    @clause("S-LEDGER-1")
    def test_records_come_back_byte_for_byte(self, place: StorePlace) -> None:
        """A record is bytes: line ends, NULs and what is no UTF-8 included."""
        records = [ALL_BYTES, b"\n", b"\n\n", b"\r\n", b"\0", b"@12 crc\n{}", b"\xff\xfe", "ü𝄞".encode(), b" "]
        writer = place.run()
        writer.write(*records)
        for record in records:
            writer.write(record)
        assert list(place.store.ledger(writer.run_id))[1:] == records * 2
        assert list(writer.stored(after=1).records) == records * 2

    @clause("S-LEDGER-2")
    def test_a_ledger_is_read_from_any_place(self, place: StorePlace) -> None:
        """``after`` and ``limit`` cut anywhere, also inside what one commit wrote; beyond the end is nothing."""
        writer = place.run()
        for size in (1, 5, 2, 1, 3):
            writer.write(*(f"{size} of {number}" for number in range(size)))
        everything = list(place.store.ledger(writer.run_id))
        assert len(everything) == writer.fence.length
        for after in range(len(everything) + 2):
            for limit in (None, 0, 1, 2, 4, 100):
                expected = everything[after:] if limit is None else everything[after : after + limit]
                assert list(place.store.ledger(writer.run_id, after=after, limit=limit)) == expected

    @clause("S-LEDGER-3")
    def test_an_unknown_run_has_no_ledger(self, place: StorePlace) -> None:
        """The ledger of a run that does not exist is empty."""
        assert list(place.store.ledger("unknown")) == []

    @clause("S-LEDGER-4")
    def test_a_reader_that_thinks_keeps_nobody_waiting(self, place: StorePlace) -> None:
        """Between two records the reader may commit, and gets the records that were there when it began."""
        writer = place.run()
        writer.write(*(f"record {number}" for number in range(50)))
        reader = place.store.ledger(writer.run_id)
        read = [next(reader)]
        for number in range(5):
            writer.write(f"later {number}")
            read.append(next(reader))
        read.extend(reader)
        assert read == list(place.store.ledger(writer.run_id, limit=51))

    @clause("S-LEDGER-5")
    def test_a_long_ledger_is_read_whole(self, place: StorePlace) -> None:
        """A ledger of many megabytes comes record by record, in order and complete."""
        writer = place.run()
        for number in range(12):
            writer.write(b"%06d" % (2 * number) + b"x" * 900_000, b"%06d" % (2 * number + 1) + b"y" * 100_000)
        numbers = [int(record[:6]) for record in place.store.ledger(writer.run_id, after=1)]
        assert len(numbers) == 24
        assert all(after == before + 1 for before, after in pairwise(numbers))

    @clause("S-LEDGER-6")
    def test_records_of_any_size_come_back(self, place: StorePlace) -> None:
        """Records just below, at and above the sizes at which a medium cuts come back whole, alone and together."""
        sizes = [
            1,
            2,
            127,
            128,
            1000,
            *(size for power in range(9, 17) for size in range(2**power - 40, 2**power + 3, 7)),
        ]
        records = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
        writer = place.run()
        for record in records:
            writer.write(record)
        writer.write(*records)
        assert list(place.store.ledger(writer.run_id, after=1)) == records * 2
        for after in (1, 20, len(records), len(records) + 20):
            assert list(writer.stored(after=after).records) == (records * 2)[after - 1 :]

"""Clauses of places, namespaces, ids, deletion and closing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ...errors import Conflict, DuplicateRun, InvalidId, Leased, StoreClosed
from ...models import Instant
from ...store.contract import Checkpoint, Commit, Fence, RunQuery, Store, WaitHead
from ..clauses import clause
from ..writer import LEASE_S, RunWriter, message_to, projection_of
from .leases import ANY, claim_all
from .place import StorePlace

CAPABILITIES = frozenset(
    {"multi_process", "durable_process", "durable_power", "artifacts", "snapshots", "wakeups"}
)  # fmt: skip

HOSTILE = (
    "..",
    "../../etc/passwd",
    "a/b",
    "a//b",
    "a\\b",
    "a",
    "A",
    "a ",
    " a",
    "a\n",
    "a\tb",
    "a'b\"c`;--",
    "%s %d {0} {x}",
    "a%2Fb",
    "*?[a]",
    "a|b&c>d",
    "é",
    "e\u0301",
    "ß",
    "日本語",
    "𝄞" * 10,
    "\u200b",
    "\u202e",
    "\x7f",
    "\x01",
    "\U0010ffff",
    "null",
    "0",
    "00",
    "-1",
    "1e5",
    "x" * 1024,
    "y" * 1023 + "é",
)
"""Texts that become paths, keys, patterns or numbers where a store is careless."""


class LifetimeClauses:
    """What one store wrote others see, as long as they are of the same namespace."""

    @clause("S-OPEN-1")
    def test_a_place_opened_twice_is_one_place(self, place: StorePlace) -> None:
        """Two stores that are open on one place and namespace see each other's runs, messages and claims at once."""
        one, two = place.open(), place.open()
        writer = place.free_run(store=one)
        assert two.load(writer.run_id) == one.load(writer.run_id)
        two.deliver([message_to(writer.run_id)])
        assert len(writer.stored().messages) == 1
        (head,) = two.claim(owner="other", lease_s=LEASE_S, can_run=ANY)
        assert one.claim(owner="me", lease_s=LEASE_S, can_run=ANY) == []
        assert writer.head() == head

    @clause("S-OPEN-2")
    def test_a_place_opened_again_has_everything(self, place: StorePlace) -> None:
        """What was written is there after all stores were closed: runs, checkpoints, inboxes, known ids, tombstones."""
        first = place.open()
        writer = place.run(
            store=first,
            projection=projection_of(tags=("a",), waits=(WaitHead(wait_id="w", reason="user", wait_key="k"),)),
        )
        first.deliver([message_to(writer.run_id, "m1"), message_to(writer.run_id, "m2", seq=2)])
        changes = {"consumed": ("m1",), "outbox": (message_to("other"),), "held": "paused"}
        writer.write("x", checkpoint=Checkpoint(length=2, state=b"state"), **changes)
        place.run("gone", store=first, lease_s=0.0)
        first.delete("gone")
        before = writer.stored()
        first.close()
        second = place.open()
        assert second.load(writer.run_id) == before
        assert second.find(RunQuery(tags=("a",), wait_key="k")).items == (before.head,)
        (delivery,) = second.deliver([message_to(writer.run_id, "m1")])
        assert delivery.outcome == "known"
        again = place.writer("gone", store=second).attempt("x", projection=projection_of())
        assert isinstance(again.error, DuplicateRun)
        RunWriter(second, writer.run_id, fence=before.head.fence).write("goes on")

    @clause("S-OPEN-3")
    def test_namespaces_know_nothing_of_each_other(self, place: StorePlace) -> None:
        """The same ids in two namespaces of one place are different runs: for every method."""
        mine, yours = place.open(), place.open(f"{place.namespace}-b")
        writer = place.free_run("run", store=mine, projection=projection_of(tags=("t",), session_id="s"))
        mine.deliver([message_to("run")])
        assert yours.load("run") is None
        assert list(yours.ledger("run")) == []
        assert yours.find(RunQuery()).items == yours.find(RunQuery(tags=("t",))).items == ()
        assert yours.claim(owner="o", lease_s=LEASE_S, can_run=ANY) == []
        assert yours.claim(owner="o", lease_s=LEASE_S, can_run=ANY, run_id="run") == []
        assert yours.deliver([message_to("run")])[0].outcome == "unknown_run"
        assert isinstance(RunWriter(yours, "run", fence=writer.fence).attempt("x", take=True).error, Conflict)
        twin = place.run("run", store=yours, owner="me", wake_at=Instant(3))
        before = twin.stored()
        mine.renew("me", 2 * LEASE_S)
        mine.delete("run")
        assert twin.stored() == before
        assert mine.load("run") is None

    @clause("S-OPEN-4")
    def test_a_closed_store_says_so(self, place: StorePlace) -> None:
        """After ``close`` every method raises `StoreClosed`; closing twice does nothing; ``with`` closes."""
        store = place.open()
        with store as entered:
            writer = place.run(store=entered)
            commit = writer.commit_of("x")
        store.close()
        calls: list[Callable[[Store], object]] = [
            lambda s: s.commit([commit]),
            lambda s: s.load(writer.run_id),
            lambda s: list(s.ledger(writer.run_id)),
            lambda s: s.find(RunQuery()),
            lambda s: s.claim(owner="o", lease_s=1.0, can_run=ANY),
            lambda s: s.renew("o", 1.0),
            lambda s: s.deliver([message_to(writer.run_id)]),
            lambda s: s.now(),
            lambda s: s.delete(writer.run_id),
        ]
        for call in calls:
            with pytest.raises(StoreClosed):
                call(store)

    @clause("S-OPEN-5")
    def test_a_store_declares_what_it_can(self, place: StorePlace) -> None:
        """Capabilities are words of the contract, and always the same."""
        assert place.store.capabilities <= CAPABILITIES
        assert place.store.capabilities == place.open().capabilities
        assert "durable_power" not in place.store.capabilities or "durable_process" in place.store.capabilities

    @clause("S-OPEN-6")
    def test_the_store_has_a_clock(self, place: StorePlace) -> None:
        """``now`` is an instant in microseconds that goes on, the same for all stores of the place."""
        first = place.store.now()
        second = place.open().now()
        assert isinstance(first, int)
        assert first <= second <= first + 60_000_000
        place.pass_time(0.05)
        assert place.store.now() - first >= 50_000

    @clause("S-DELETE-1")
    def test_a_deleted_run_is_gone(self, place: StorePlace) -> None:
        """After ``delete`` nothing of the run is loaded, read, found, claimed or delivered to; others stay, and a new
        run has nothing of it."""
        waits = (WaitHead(wait_id="w", reason="user", wait_key="k"),)
        neighbours = [place.free_run("a/b", wake_at=None), place.free_run("aa", wake_at=None)]
        writer = place.free_run("a", projection=projection_of(waits=waits, tags=("t",), session_id="s"))
        parts = {"checkpoint": Checkpoint(length=2, state=b"s"), "outbox": (message_to("other"),), "artifacts": ("x",)}
        writer.write("x", take=True, lease_s=0.0, **parts)
        place.store.deliver([message_to("a")])
        before = [neighbour.stored() for neighbour in neighbours]
        place.store.delete("a")
        assert place.store.load("a") is None
        assert list(place.store.ledger("a")) == []
        for query in (RunQuery(wait_key="k"), RunQuery(tags=("t",)), RunQuery(session_id="s"), RunQuery(due=True)):
            assert place.store.find(query).items == ()
        assert claim_all(place) == []
        assert place.store.deliver([message_to("a")])[0].outcome == "unknown_run"
        assert [neighbour.stored() for neighbour in neighbours] == before
        new = place.run("new").stored()
        assert (len(new.records), new.checkpoint, new.messages, new.outbox) == (1, None, (), ())
        assert place.store.deliver([message_to("new")])[0].outcome == "accepted"

    @clause("S-DELETE-2")
    def test_a_deleted_id_is_not_used_again(self, place: StorePlace) -> None:
        """A tombstone keeps the id: creating it again is a `DuplicateRun`, and going on is a `Conflict`."""
        writer = place.free_run()
        place.store.delete(writer.run_id)
        again = place.writer(writer.run_id).attempt("again", projection=projection_of())
        assert isinstance(again.error, DuplicateRun)
        assert isinstance(writer.attempt("on", take=True).error, Conflict)
        assert place.store.load(writer.run_id) is None

    @clause("S-DELETE-3")
    def test_a_held_run_is_not_deleted(self, place: StorePlace) -> None:
        """Deleting a run that somebody holds raises `Leased`; when the lease is over it can be deleted."""
        writer = place.run()
        before = writer.stored()
        with pytest.raises(Leased):
            place.store.delete(writer.run_id)
        assert writer.stored() == before
        writer.write(lease_s=0.0)
        place.store.delete(writer.run_id)
        assert place.store.load(writer.run_id) is None

    @clause("S-DELETE-4")
    def test_deleting_what_is_not_there_does_nothing(self, place: StorePlace) -> None:
        """Deleting an unknown run makes no tombstone, and deleting twice is deleting once."""
        place.store.delete("unknown")
        place.free_run("unknown")
        for _ in range(2):
            place.store.delete("unknown")
        assert place.store.load("unknown") is None

    @clause("S-ID-1")
    def test_a_run_may_have_any_id(self, place: StorePlace) -> None:
        """Ids that look like paths, patterns, numbers or each other are different runs, found and claimed as such."""
        for run_id in HOSTILE:
            place.free_run(run_id).write(f"of {HOSTILE.index(run_id)}", take=True, lease_s=0.0)
        place.store.deliver([message_to(run_id) for run_id in HOSTILE])
        assert [head.run_id for head in place.store.find(RunQuery(order="id", limit=1000)).items] == sorted(HOSTILE)
        assert sorted(claim_all(place, limit=1000)) == sorted(HOSTILE)
        for number, run_id in enumerate(HOSTILE):
            stored = place.store.load(run_id)
            assert stored is not None
            assert (stored.head.run_id, stored.head.length, len(stored.messages)) == (run_id, 2, 1)
            assert f'"of {number}"'.encode() in stored.records[1]

    @clause("S-ID-2")
    def test_keys_owners_and_messages_may_have_any_text(self, place: StorePlace) -> None:
        """Owners, wait keys, tags, sessions, queues and the texts of messages are kept as they are."""
        for number, text in enumerate(HOSTILE):
            projection = projection_of(
                waits=(WaitHead(wait_id=text, reason="user", wait_key=text),),
                tags=(text,),
                session_id=text,
                queue=text,
                workflow_id=text,
            )
            writer = place.run(f"run {number}", owner=text, projection=projection)
            message = message_to(writer.run_id, text, sender=text, key=text, actor_id=text)
            place.store.deliver([message])
            stored = writer.stored()
            assert (stored.head.projection, stored.head.owner) == (projection, text)
            assert list(stored.messages) == [message]
        for number, text in enumerate(HOSTILE):
            for query in (
                RunQuery(wait_key=text),
                RunQuery(tags=(text,)),
                RunQuery(session_id=text),
                RunQuery(queue=text),
            ):
                assert [head.run_id for head in place.store.find(query).items] == [f"run {number}"]
            place.store.renew(text, 2 * LEASE_S)

    @clause("S-ID-3")
    def test_an_id_of_the_wrong_form_is_refused(self, place: StorePlace) -> None:
        """Ids that are empty, longer than 1,024 characters, or hold NUL or lone surrogates are an `InvalidId`, and
        nothing is written; asking for such a run finds nothing."""
        for wrong in ("", "x" * 1025, "a\0b", "\ud800"):
            commit = Commit(
                run_id=wrong,
                owner="o",
                expect=Fence(length=0),
                records=(b"x",),
                head_hash="h",
                projection=projection_of(),
            )
            (result,) = place.store.commit([commit])
            assert isinstance(result.error, InvalidId)
            result = place.writer("good", owner=wrong).attempt("x", projection=projection_of(), lease_s=LEASE_S)
            assert isinstance(result.error, InvalidId)
            with pytest.raises(InvalidId):
                place.store.claim(owner=wrong, lease_s=LEASE_S, can_run=ANY)
        assert place.store.find(RunQuery()).items == ()

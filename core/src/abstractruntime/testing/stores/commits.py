"""Clauses of `Store.commit`: all or nothing, under the fence."""

from __future__ import annotations

import pytest

from ...errors import Conflict, DuplicateRun, InvalidValue, UsageError
from ...models import Instant
from ...store.contract import Checkpoint, Commit, Fence, WaitHead
from ..clauses import clause
from ..writer import LEASE_S, RunWriter, message_to, projection_of
from .place import StorePlace


def changed_everywhere(writer: RunWriter) -> Commit:
    """A commit that changes all that a commit can change."""
    run_id = writer.run_id
    return writer.commit_of(
        "never",
        projection=projection_of(status="waiting", since=Instant(9), tags=("never",)),
        lease_s=2 * LEASE_S,
        wake_at=None,
        held="paused",
        messages=(message_to(run_id, "never", nonce="n" * 32),),
        consumed=("seen",),
        outbox=(message_to("other", "never"),),
        delivered=("sent",),
        checkpoint=Checkpoint(length=2, state=b"never"),
    )


class CommitClauses:
    """One step, one atomic commit."""

    @clause("S-COMMIT-1")
    def test_a_created_run_is_what_its_commit_said(self, place: StorePlace) -> None:
        """A commit expecting length 0 creates the run with its records, projection, owner, lease and wish; epoch 1."""
        projection = projection_of(
            workflow_version="2",
            status="waiting",
            waits=(WaitHead(wait_id="w:1", reason="user", wait_key="ask", until=Instant(77)),),
            queue="slow",
            priority=3,
            partition_key="p",
            parent_run_id="parent",
            root_run_id="root",
            session_id="session",
            actor_id="actor",
            tags=("a", "b"),
            format=2,
        )
        before = place.store.now()
        writer = place.writer()
        result = writer.write("one", "two", projection=projection, lease_s=LEASE_S, wake_at=Instant(123))
        stored = writer.stored()
        head = stored.head
        assert head.projection == projection
        assert (head.run_id, head.length, head.head_hash) == (writer.run_id, 2, writer.fence.head_hash)
        assert (head.owner, head.epoch, head.held, head.claims) == (writer.owner, 1, "", 0)
        assert (head.wake_at, head.lease_until) == (123, result.lease_until)
        lease = round(LEASE_S * 1_000_000)
        assert head.lease_until is not None
        assert before + lease <= head.lease_until <= place.store.now() + lease
        assert len(stored.records) == 2

    @clause("S-COMMIT-2")
    def test_records_are_appended_in_order(self, place: StorePlace) -> None:
        """Records are appended in order, and the head says how many there are and the hash of the last."""
        writer = place.run()
        writer.write("a")
        writer.write("b", "c")
        assert [b'"a"' in record for record in writer.stored().records] == [False, True, False, False]
        assert [b'"c"' in record for record in writer.stored().records] == [False, False, False, True]
        assert writer.head().fence == writer.fence == Fence(length=4, head_hash=writer.fence.head_hash, epoch=1)

    @clause("S-COMMIT-3")
    def test_a_writer_at_an_older_length_is_refused(self, place: StorePlace) -> None:
        """A commit that expects another length than the run has is a `Conflict`, and leaves no trace."""
        writer = place.run()
        stale = writer.commit_of("stale")
        writer.write("first")
        before = writer.stored()
        (result,) = place.store.commit([stale])
        assert isinstance(result.error, Conflict)
        assert writer.stored() == before

    @clause("S-COMMIT-4")
    def test_a_writer_with_another_hash_is_refused(self, place: StorePlace) -> None:
        """A commit that expects another head hash, as after a restored backup, is a `Conflict`."""
        writer = place.run()
        before = writer.stored()
        other = Fence(length=1, head_hash="0" * 64, epoch=1)
        result = RunWriter(place.store, writer.run_id, fence=other).attempt("from a lost future")
        assert isinstance(result.error, Conflict)
        assert writer.stored() == before

    @clause("S-COMMIT-5")
    def test_a_writer_of_an_older_epoch_is_refused(self, place: StorePlace) -> None:
        """A commit that expects another epoch is a `Conflict`, also when its owner's name holds the run again."""
        writer = place.free_run()
        stale = writer.commit_of("stale", take=True, lease_s=LEASE_S)
        other = RunWriter(place.store, writer.run_id, owner="other", fence=writer.fence)
        other.write(take=True, lease_s=0.0)
        RunWriter(place.store, writer.run_id, fence=other.fence).write(take=True, lease_s=LEASE_S)
        before = writer.stored()
        (result,) = place.store.commit([stale])
        assert isinstance(result.error, Conflict)
        assert writer.stored() == before

    @clause("S-COMMIT-6")
    def test_a_run_is_created_once(self, place: StorePlace) -> None:
        """Creating a run that exists is a `DuplicateRun`, and leaves it as it is."""
        writer = place.run()
        before = writer.stored()
        again = place.writer(writer.run_id, owner="other")
        result = again.attempt("again", projection=projection_of(), lease_s=LEASE_S)
        assert isinstance(result.error, DuplicateRun)
        assert writer.stored() == before

    @clause("S-COMMIT-7")
    def test_a_refused_commit_leaves_no_trace(self, place: StorePlace) -> None:
        """Of a refused commit nothing is kept: no record, value, message, message id, outbox entry or checkpoint."""
        writer = place.run(outbox=(message_to("other", "sent"),))
        place.store.deliver([message_to(writer.run_id, "seen")])
        before = writer.stored()
        stranger = RunWriter(place.store, writer.run_id, owner="stranger", fence=writer.fence)
        (result,) = place.store.commit([changed_everywhere(stranger)])
        assert isinstance(result.error, Conflict)
        assert writer.stored() == before
        (delivery,) = place.store.deliver([message_to(writer.run_id, "never", nonce="o" * 32)])
        assert delivery.outcome == "accepted"

    @clause("S-COMMIT-8")
    def test_each_commit_of_a_call_stands_alone(self, place: StorePlace) -> None:
        """Commits of one call are answered in order, and one that is refused hinders none of the others."""
        first, refused, last = place.run(), place.run(), place.run()
        wrong = RunWriter(place.store, refused.run_id, fence=Fence(length=7, head_hash="7", epoch=1))
        missing = place.writer("nobody", owner="o").commit_of("x", expect=Fence(length=1, head_hash="1", epoch=1))
        commits = [first.commit_of("a"), wrong.commit_of("b"), missing, last.commit_of("c")]
        results = place.store.commit(commits)
        assert [result.run_id for result in results] == [commit.run_id for commit in commits]
        assert [type(result.error) for result in results] == [type(None), Conflict, Conflict, type(None)]
        assert [writer.head().length for writer in (first, refused, last)] == [2, 1, 2]

    @clause("S-COMMIT-9")
    def test_commits_of_one_run_apply_in_order(self, place: StorePlace) -> None:
        """Several commits of one run in one call follow each other."""
        writer = place.run()
        commits = []
        for number in range(5):
            commits.append(writer.commit_of(f"step {number}"))
            writer.fence = Fence(length=number + 2, head_hash=commits[-1].head_hash, epoch=1)
        assert [result.error for result in place.store.commit(commits)] == [None] * 5
        assert writer.head().fence == writer.fence
        assert [f'"step {n}"'.encode() in record for n, record in enumerate(writer.stored(after=1).records)] == [
            True
        ] * 5

    @clause("S-COMMIT-10")
    def test_a_run_that_is_not_there_cannot_be_advanced(self, place: StorePlace) -> None:
        """A commit to a run that does not exist is a `Conflict`, and makes none."""
        fence = Fence(length=3, head_hash="3" * 64, epoch=1)
        result = RunWriter(place.store, "nobody", fence=fence).attempt("x", take=True)
        assert isinstance(result.error, Conflict)
        assert place.store.load("nobody") is None

    @clause("S-COMMIT-11")
    def test_a_projection_is_replaced_as_a_whole_or_stays(self, place: StorePlace) -> None:
        """A commit without a projection leaves it; one with a projection replaces all of it."""
        old = projection_of(
            tags=("a", "b"), session_id="s", waits=(WaitHead(wait_id="w", reason="user", wait_key="k"),)
        )
        writer = place.run(projection=old)
        writer.write("x")
        assert writer.head().projection == old
        new = projection_of(status="completed", since=Instant(5), tags=("b", "c"), parent_run_id="p")
        writer.write("y", projection=new)
        assert writer.head().projection == new

    @clause("S-COMMIT-12")
    def test_a_commit_holds_a_thousand_records(self, place: StorePlace) -> None:
        """A commit may have 1,000 records."""
        writer = place.run()
        writer.write(*(f"record {number}" for number in range(1000)))
        stored = writer.stored(after=1)
        assert stored.head.length == 1001
        assert [f'"record {n}"'.encode() in record for n, record in enumerate(stored.records)] == [True] * 1000

    @clause("S-COMMIT-13")
    def test_a_record_holds_a_mebibyte(self, place: StorePlace) -> None:
        """A record may have 1 MiB, and several of them a place in one commit."""
        writer = place.run()
        large = [bytes([number]) * (1 << 20) for number in range(3)]
        writer.write(*large)
        assert list(writer.stored(after=1).records) == large

    @clause("S-COMMIT-14")
    def test_a_commit_out_of_bounds_is_refused(self, place: StorePlace) -> None:
        """A record of no bytes or of more than 1 MiB, more than 1,000 records, a creation without a record or a
        projection, and records without a hash are an `InvalidValue` in the result, and nothing is written."""
        writer = place.run()
        before = writer.stored()
        wrong = [
            writer.commit_of(b""),
            writer.commit_of(b"x" * ((1 << 20) + 1)),
            writer.commit_of(*["x"] * 1001),
            structs_without_hash(writer),
            writer.commit_of(lease_s=-1.0),
            place.writer("new").commit_of("x"),
            place.writer("new").commit_of(projection=projection_of()),
        ]
        for commit in wrong:
            (result,) = place.store.commit([commit])
            assert isinstance(result.error, InvalidValue), commit
        assert writer.stored() == before
        assert place.store.load("new") is None

    @clause("S-COMMIT-15")
    def test_a_commit_without_records_moves_the_rest(self, place: StorePlace) -> None:
        """A commit without records moves lease, hold, wish and outbox, and leaves length and hash as they are."""
        writer = place.run()
        writer.write(wake_at=Instant(5), held="paused", lease_s=2 * LEASE_S, outbox=(message_to("other"),))
        stored = writer.stored()
        assert (stored.head.length, stored.head.head_hash) == (1, writer.fence.head_hash)
        assert (stored.head.wake_at, stored.head.held, len(stored.outbox)) == (5, "paused", 1)
        assert stored.head.lease_until is not None
        assert stored.head.lease_until > place.store.now() + LEASE_S * 1_000_000

    @clause("S-COMMIT-16")
    def test_a_call_has_at_most_a_thousand_commits(self, place: StorePlace) -> None:
        """More than 1,000 commits in one call are refused altogether, a thousand are not, and none is fine."""
        writer = place.run()
        with pytest.raises(UsageError):
            place.store.commit([writer.commit_of("x")] * 1001)
        assert place.store.commit([]) == []
        creations = [
            place.writer(f"many-{number}").commit_of("x", projection=projection_of()) for number in range(1000)
        ]
        assert [result.error for result in place.store.commit(creations)] == [None] * 1000
        assert writer.head().length == 1

    @clause("S-COMMIT-17")
    def test_an_answer_says_what_the_run_now_is(self, place: StorePlace) -> None:
        """An answer without error gives the run's epoch, lease and ``wake_at`` after the commit."""
        writer = place.run()
        for changes in ({}, {"wake_at": Instant(7)}, {"lease_s": LEASE_S / 2}, {"wake_at": None}, {"lease_s": 0.0}):
            result = writer.write("x", **changes)
            head = writer.head()
            assert (result.run_id, result.epoch, result.lease_until, result.wake_at, result.unseen) == (
                writer.run_id,
                head.epoch,
                head.lease_until,
                head.wake_at,
                False,
            )

    @clause("S-COMMIT-18")
    def test_an_answered_commit_is_there_for_others(self, place: StorePlace) -> None:
        """What a commit without error wrote is there at once, also for a store that is opened later."""
        writer = place.run()
        for number in range(10):
            writer.write(f"step {number}")
        stored = place.open().load(writer.run_id)
        assert stored is not None
        assert stored.head == writer.head()
        assert len(stored.records) == 11


def structs_without_hash(writer: RunWriter) -> Commit:
    """A commit with a record and no hash for it."""
    return writer.commit_of("x", head_hash="")

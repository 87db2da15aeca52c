"""Clauses of leases: take, claim, renew. One owner at a time, judged by the store's clock alone."""

from __future__ import annotations

from ...errors import Conflict, Leased
from ...models import Instant
from ...store.contract import RunHead, Runnable
from ..clauses import clause
from ..writer import LEASE_S, SHORT_LEASE_S, RunWriter, message_to, projection_of
from .place import StorePlace

ANY = Runnable(format=9)


def claim_all(place: StorePlace, can_run: Runnable = ANY, *, limit: int = 100) -> list[str]:
    """The ids of what a claimer gets, in order."""
    return [run.run_id for run in place.store.claim(owner="claimer", lease_s=LEASE_S, can_run=can_run, limit=limit)]


class LeaseClauses:
    """A run is held by one owner; a dead one is a lease that ran out."""

    @clause("S-TAKE-1")
    def test_a_free_run_is_taken_in_the_commit(self, place: StorePlace) -> None:
        """A commit with ``take`` to a run that nobody holds makes its writer the owner and raises the epoch by one."""
        writer = place.free_run()
        other = RunWriter(place.store, writer.run_id, owner="other", fence=writer.fence)
        assert other.write("taken", take=True, lease_s=LEASE_S).epoch == 2
        head = writer.head()
        assert (head.owner, head.epoch, head.length) == ("other", 2, 2)

    @clause("S-TAKE-2")
    def test_a_held_run_is_not_taken(self, place: StorePlace) -> None:
        """Taking a run that somebody else holds is `Leased`, with run, owner and end, and nothing is written."""
        writer = place.run()
        before = writer.stored()
        other = RunWriter(place.store, writer.run_id, owner="other", fence=writer.fence)
        error = other.attempt("taken", take=True, lease_s=LEASE_S).error
        assert isinstance(error, Leased)
        assert (error.run_id, error.owner, error.until) == (writer.run_id, writer.owner, before.head.lease_until)
        assert writer.stored() == before

    @clause("S-TAKE-3")
    def test_a_run_whose_lease_ran_out_is_taken_and_its_owner_fenced_off(self, place: StorePlace) -> None:
        """After its lease ran out a run can be taken; what the old owner commits then is a `Conflict`."""
        writer = place.run(lease_s=SHORT_LEASE_S)
        place.pass_time(SHORT_LEASE_S)
        other = RunWriter(place.store, writer.run_id, owner="other", fence=writer.fence)
        other.write(take=True, lease_s=LEASE_S)
        assert isinstance(writer.attempt("too late").error, Conflict)
        assert writer.head().fence == other.fence

    @clause("S-TAKE-4")
    def test_a_run_is_taken_from_the_owner_that_is_named(self, place: StorePlace) -> None:
        """``take_from`` takes a run from that owner under its lease, and from nobody else; the lease's end stays."""
        writer = place.run(owner="grace")
        other = RunWriter(place.store, writer.run_id, owner="other", fence=writer.fence)
        assert isinstance(other.attempt("x", take=True, take_from="somebody").error, Leased)
        until = writer.head().lease_until
        other.write("x", take=True, take_from="grace")
        head = writer.head()
        assert (head.owner, head.epoch, head.lease_until) == ("other", 2, until)

    @clause("S-TAKE-5")
    def test_an_owner_takes_nothing_from_itself(self, place: StorePlace) -> None:
        """A commit with ``take`` by the owner is applied and leaves the epoch, as the run does not change hands."""
        writer = place.run()
        assert writer.write("x", take=True).epoch == 1
        assert writer.head().epoch == 1

    @clause("S-TAKE-6")
    def test_only_who_holds_or_takes_may_write(self, place: StorePlace) -> None:
        """Without ``take``, a commit of anybody but the owner is a `Conflict`, also where the run is free."""
        held, free = place.run(), place.free_run()
        held.write("a")
        held.write("b")
        for writer in (held, free):
            before = writer.stored()
            stranger = RunWriter(place.store, writer.run_id, owner="stranger", fence=writer.fence)
            assert isinstance(stranger.attempt("x").error, Conflict)
            assert writer.stored() == before

    @clause("S-TAKE-7")
    def test_an_owner_may_write_until_somebody_took_the_run(self, place: StorePlace) -> None:
        """A lease that ran out does not stop its owner, as long as nobody else took the run."""
        writer = place.run(lease_s=SHORT_LEASE_S)
        place.pass_time(SHORT_LEASE_S)
        writer.write("late", lease_s=LEASE_S)
        assert claim_all(place) == []

    @clause("S-TAKE-8")
    def test_the_fence_comes_before_the_lease(self, place: StorePlace) -> None:
        """Who is at another place than the run learns that by a `Conflict`, and not that somebody holds it."""
        writer = place.run()
        behind = RunWriter(place.store, writer.run_id, owner="behind", fence=writer.fence)
        writer.write("x")
        assert isinstance(behind.attempt("y", take=True).error, Conflict)

    @clause("S-TAKE-9")
    def test_a_take_without_a_record_counts_as_a_claim(self, place: StorePlace) -> None:
        """``claims`` counts claims and takes since the last record, and is 0 after one."""
        writer = place.free_run()
        for number in (1, 2):
            taker = RunWriter(place.store, writer.run_id, owner=f"taker {number}", fence=writer.fence)
            taker.write(take=True, lease_s=0.0)
            writer.fence = taker.fence
            assert writer.head().claims == number
        writer.write("done", take=True)
        assert writer.head().claims == 0

    @clause("S-LEASE-1")
    def test_a_lease_is_a_length_from_the_stores_now(self, place: StorePlace) -> None:
        """A lease ends so many seconds after the commit by the store's own clock, however often it is set."""
        writer = place.run()
        for lease_s in (1.5, LEASE_S, 0.5):
            before = place.store.now()
            until = writer.write("x", lease_s=lease_s).lease_until
            assert until is not None
            assert before <= until - round(lease_s * 1_000_000) <= place.store.now()
            assert writer.head().lease_until == until

    @clause("S-LEASE-2")
    def test_a_lease_of_nothing_releases(self, place: StorePlace) -> None:
        """``lease_s`` 0 leaves the run without owner and lease; if it is due, others get it at once."""
        writer = place.run()
        writer.write("x", lease_s=0.0)
        head = writer.head()
        assert (head.owner, head.lease_until, head.epoch) == (None, None, 1)
        assert claim_all(place) == [writer.run_id]

    @clause("S-LEASE-3")
    def test_a_commit_without_a_lease_leaves_its_end(self, place: StorePlace) -> None:
        """``lease_s`` None leaves the end of the lease where it was."""
        writer = place.run()
        until = writer.head().lease_until
        place.pass_time(0.01)
        assert writer.write("x").lease_until == until
        assert writer.head().lease_until == until

    @clause("S-LEASE-4")
    def test_an_owner_without_a_lease_keeps_nobody_out(self, place: StorePlace) -> None:
        """A run that was created without a lease is due for everybody, and its writer may go on until it is taken."""
        writer = place.run(lease_s=None)
        writer.write("x")
        assert claim_all(place) == [writer.run_id]
        assert isinstance(writer.attempt("y").error, Conflict)

    @clause("S-CLAIM-1")
    def test_a_claimed_run_has_the_new_owner(self, place: StorePlace) -> None:
        """A claimed run has the owner, a lease of the length asked for, epoch + 1 and claims + 1; ``wake_at`` stays.
        The head that is returned is the one that is stored, so that its fence can be committed against."""
        writer = place.free_run(wake_at=Instant(5))
        before = place.store.now()
        (head,) = place.store.claim(owner="claimer", lease_s=LEASE_S, can_run=ANY)
        assert (head.run_id, head.owner, head.epoch, head.claims, head.wake_at) == (writer.run_id, "claimer", 2, 1, 5)
        assert head.lease_until is not None
        assert before <= head.lease_until - round(LEASE_S * 1_000_000) <= place.store.now()
        assert head == writer.head()
        writer.claimed_by(head).write("mine")

    @clause("S-CLAIM-2")
    def test_only_due_runs_are_claimed(self, place: StorePlace) -> None:
        """Runs without ``wake_at``, with one in the future, leased or held are passed over."""
        now = place.store.now()
        due = place.free_run()
        place.free_run(wake_at=None)
        place.free_run(wake_at=Instant(now + 3_600_000_000))
        place.run()
        place.free_run(held="paused")
        assert claim_all(place) == [due.run_id]

    @clause("S-CLAIM-3")
    def test_claims_go_by_priority_then_wake_at_then_id(self, place: StorePlace) -> None:
        """The highest priority first, over all queues; of one priority what is due longest; then by id."""
        for run_id, priority, wake_at, queue in (
            ("c", 0, 20, "q"),
            ("a", 0, 10, "default"),
            ("e", -1, 1, "q"),
            ("b", 0, 10, "q"),
            ("d", 7, 30, "default"),
            ("f", 7, 25, "p"),
        ):
            place.free_run(run_id, wake_at=Instant(wake_at), projection=projection_of(priority=priority, queue=queue))
        assert claim_all(place, limit=1) == ["f"]
        assert claim_all(place, limit=3) == ["d", "a", "b"]
        assert claim_all(place) == ["c", "e"]

    @clause("S-CLAIM-4")
    def test_a_run_waits_for_its_time(self, place: StorePlace) -> None:
        """A run becomes due when its ``wake_at`` is past by the store's clock, and not before."""
        writer = place.free_run(wake_at=Instant(place.store.now() + round(SHORT_LEASE_S * 1_000_000)))
        assert claim_all(place) == []
        place.pass_time(SHORT_LEASE_S)
        assert claim_all(place) == [writer.run_id]

    @clause("S-CLAIM-5")
    def test_what_a_claimer_cannot_run_is_passed_over(self, place: StorePlace) -> None:
        """Runs of another queue, workflow or version, and of a newer format, are left for others."""
        cannot: list[dict[str, object]] = [
            {"queue": "slow", "workflow_version": "1"},
            {"workflow_id": "other", "workflow_version": "1"},
            {"workflow_version": "2"},
            {"format": 3, "workflow_version": "1"},
        ]
        for number, changes in enumerate(cannot):
            place.free_run(f"not {number}", projection=projection_of(**changes))
        mine = place.free_run(projection=projection_of(workflow_version="1", format=2))
        can_run = Runnable(queues=("default", "fast"), workflows={"flow": ("0", "1")}, format=2)
        assert claim_all(place, can_run) == [mine.run_id]
        assert claim_all(place, Runnable(queues=(), format=9)) == []
        assert claim_all(place, Runnable(workflows={}, format=9)) == []
        assert len(claim_all(place)) == 4

    @clause("S-CLAIM-6")
    def test_a_workflow_without_versions_means_all_of_them(self, place: StorePlace) -> None:
        """An empty tuple of versions means every version, None for queues or workflows means any."""
        for version in ("", "1", "2"):
            place.free_run(f"v{version}", projection=projection_of(workflow_version=version, queue=f"q{version}"))
        assert sorted(claim_all(place, Runnable(workflows={"flow": (), "other": ("1",)}))) == ["v", "v1", "v2"]

    @clause("S-CLAIM-7")
    def test_one_run_can_be_claimed_by_name(self, place: StorePlace) -> None:
        """``run_id`` claims that run, if it is due and can be run, and no other."""
        first, second = place.free_run("first"), place.free_run("second")
        busy = place.run("busy")

        def claim(run_id: str, can_run: Runnable = ANY) -> list[RunHead]:
            return place.store.claim(owner="claimer", lease_s=LEASE_S, can_run=can_run, limit=5, run_id=run_id)

        assert claim(second.run_id, Runnable(queues=("other",))) == []
        assert [head.run_id for head in claim(second.run_id)] == ["second"]
        assert claim(second.run_id) == claim(busy.run_id) == claim("nobody") == []
        assert claim_all(place) == [first.run_id]

    @clause("S-CLAIM-8")
    def test_a_run_whose_lease_ran_out_is_claimed_again(self, place: StorePlace) -> None:
        """When an owner's lease runs out, the run is due again, goes to another under a higher epoch, and the first
        owner is fenced off."""
        writer = place.run(lease_s=SHORT_LEASE_S)
        assert claim_all(place) == []
        place.pass_time(SHORT_LEASE_S)
        (head,) = place.store.claim(owner="other", lease_s=LEASE_S, can_run=ANY)
        assert (head.run_id, head.owner, head.epoch) == (writer.run_id, "other", 2)
        assert isinstance(writer.attempt("too late").error, Conflict)

    @clause("S-CLAIM-9")
    def test_claims_without_a_record_are_counted(self, place: StorePlace) -> None:
        """``claims`` grows by one with each claim, over owners that die, and is 0 after a record."""
        writer = place.free_run()
        for count in (1, 2, 3):
            (head,) = place.store.claim(owner=f"claimer {count}", lease_s=SHORT_LEASE_S / 4, can_run=ANY)
            assert head.claims == count
            place.pass_time(SHORT_LEASE_S / 4)
        writer.claimed_by(writer.head()).write("survived")
        assert writer.head().claims == 0

    @clause("S-CLAIM-10")
    def test_a_claimed_run_is_not_given_away(self, place: StorePlace) -> None:
        """While its lease lasts, a claimed run is given to nobody else, by whatever way, and not to its owner again."""
        writer = place.free_run()
        assert claim_all(place) == [writer.run_id]
        assert claim_all(place) == []
        for owner in ("other", "claimer"):
            claimed = place.store.claim(owner=owner, lease_s=LEASE_S, can_run=ANY, run_id=writer.run_id)
            assert claimed == []

    @clause("S-CLAIM-11")
    def test_a_claim_takes_what_it_is_asked_for_and_no_more(self, place: StorePlace) -> None:
        """Up to ``limit`` runs are claimed, and the others stay free."""
        for _ in range(5):
            place.free_run()
        assert len(claim_all(place, limit=2)) == 2
        assert len(claim_all(place, limit=2)) == 2
        assert len(claim_all(place, limit=2)) == 1

    @clause("S-CLAIM-12")
    def test_a_run_that_changed_is_claimed_once_and_as_it_is(self, place: StorePlace) -> None:
        """What a claimer passed over is claimed later by its present queue, priority and time, once, and not at all if
        it was deleted."""
        moved, later, gone = place.free_run("moved"), place.free_run("later"), place.free_run("gone")
        place.free_run("same")
        assert claim_all(place, Runnable(queues=("none",), format=9)) == []
        elsewhere = projection_of(queue="slow", priority=5)
        moved.write("x", projection=elsewhere, wake_at=Instant(1), take=True, lease_s=0.0)
        later.write("x", wake_at=Instant(place.store.now() + 3_600_000_000), take=True, lease_s=0.0)
        place.store.delete(gone.run_id)
        assert claim_all(place, Runnable(queues=("default",), format=9)) == ["same"]
        place.store.deliver([message_to("later"), message_to("moved")])
        assert claim_all(place) == ["moved", "later"]

    @clause("S-RENEW-1")
    def test_renewal_extends_all_leases_of_one_owner(self, place: StorePlace) -> None:
        """One call extends the leases of all runs of an owner to so many seconds from now, and of no one else."""
        mine = [place.run(owner="me", lease_s=1.0) for _ in range(3)]
        other = place.run(owner="you", lease_s=1.0)
        until = other.head().lease_until
        before = place.store.now()
        place.store.renew("me", LEASE_S)
        for writer in mine:
            head = writer.head()
            assert head.lease_until is not None
            assert before <= head.lease_until - round(LEASE_S * 1_000_000) <= place.store.now()
            assert (head.owner, head.epoch) == ("me", 1)
        assert other.head().lease_until == until

    @clause("S-RENEW-2")
    def test_renewal_tells_of_unseen_messages(self, place: StorePlace) -> None:
        """The heads of those runs come back that have messages newer than their mark, and of no others."""
        quiet, seen, unseen = (place.run(owner="me") for _ in range(3))
        foreign = place.run(owner="you")
        for writer in (seen, unseen, foreign):
            place.store.deliver([message_to(writer.run_id)])
        seen.write(inbox_mark=seen.stored().inbox_mark)
        (head,) = place.store.renew("me", LEASE_S)
        assert head == unseen.head()
        assert quiet.head().lease_until is not None

    @clause("S-RENEW-3")
    def test_a_lease_that_ran_out_is_renewed_unless_somebody_took_the_run(self, place: StorePlace) -> None:
        """A late renewal still counts where nobody was faster; a run that was taken stays with its new owner."""
        kept, lost = place.run("kept", lease_s=SHORT_LEASE_S), place.run("lost", lease_s=SHORT_LEASE_S)
        place.pass_time(SHORT_LEASE_S)
        (taken,) = place.store.claim(owner="other", lease_s=LEASE_S, can_run=ANY, run_id="lost")
        place.store.renew(kept.owner, LEASE_S)
        assert claim_all(place) == []
        assert lost.head() == taken

    @clause("S-RENEW-4")
    def test_renewal_makes_no_lease(self, place: StorePlace) -> None:
        """A run without a lease gets none, and an owner that holds nothing renews nothing."""
        released, never = place.free_run(), place.run(lease_s=None)
        assert place.store.renew(released.owner, LEASE_S) == place.store.renew("nobody", LEASE_S) == []
        assert (released.head().lease_until, never.head().lease_until) == (None, None)

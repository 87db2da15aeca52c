"""Clauses of ``wake_at``: the engine wishes, the store knows what came in since."""

from __future__ import annotations

from ...models import Instant
from ...store.contract import Runnable
from ..clauses import clause
from ..writer import LEASE_S, RunWriter, message_to, projection_of
from .place import StorePlace

FAR = Instant(4_000_000_000_000_000)  # 2096


class WakeClauses:
    """Nobody parks over what they have not seen."""

    @clause("S-WAKE-1")
    def test_a_wish_is_followed(self, place: StorePlace) -> None:
        """``wake_at`` becomes what a commit wishes, None included, and stays where it wishes nothing."""
        writer = place.run(wake_at=FAR)
        writer.write("a")
        assert writer.head().wake_at == FAR
        writer.write("b", wake_at=None)
        assert writer.head().wake_at is None
        writer.write("c", wake_at=Instant(FAR + 1))
        assert writer.head().wake_at == FAR + 1

    @clause("S-WAKE-2")
    def test_a_run_that_parks_over_an_unseen_message_stays_due(self, place: StorePlace) -> None:
        """A commit whose inbox mark is older than a message leaves the run due, whatever it wishes, and says so."""
        for wish in (None, FAR):
            writer = place.run()
            mark = writer.stored().inbox_mark
            place.store.deliver([message_to(writer.run_id)])
            result = writer.write("parked", inbox_mark=mark, wake_at=wish, lease_s=0.0)
            assert result.unseen
            assert result.wake_at is not None
            assert result.wake_at <= place.store.now()
            assert writer.head().wake_at == result.wake_at

    @clause("S-WAKE-3")
    def test_a_run_that_has_seen_its_messages_sleeps(self, place: StorePlace) -> None:
        """A message that the mark covers does not wake the run again, though nobody consumed it."""
        writer = place.run()
        place.store.deliver([message_to(writer.run_id)])
        result = writer.write("parked", inbox_mark=writer.stored().inbox_mark, wake_at=None, lease_s=0.0)
        assert (result.unseen, result.wake_at) == (False, None)
        assert len(writer.stored().messages) == 1

    @clause("S-WAKE-4")
    def test_a_message_consumed_by_the_parking_commit_does_not_wake(self, place: StorePlace) -> None:
        """A message that the commit itself takes in is not unseen, whatever the mark; another one is."""
        writer = place.run()
        mark = writer.stored().inbox_mark
        place.store.deliver([message_to(writer.run_id, "m1"), message_to(writer.run_id, "m2", seq=2)])
        assert writer.write("one", inbox_mark=mark, consumed=("m1",), wake_at=None).unseen
        result = writer.write("two", inbox_mark=mark, consumed=("m2",), wake_at=None)
        assert (result.unseen, result.wake_at) == (False, None)

    @clause("S-WAKE-5")
    def test_an_undelivered_outbox_keeps_a_run_due(self, place: StorePlace) -> None:
        """A run with undelivered messages to others is due, whatever is wished, until a commit names them delivered."""
        writer = place.run()
        first, second = message_to("other", "o1"), message_to("other", "o2", seq=2)
        for changes in ({"outbox": (first, second), "wake_at": None}, {"delivered": ("o1",), "wake_at": FAR}):
            result = writer.write("sent", **changes)
            assert result.wake_at is not None
            assert result.wake_at <= place.store.now()
        assert writer.write("all", delivered=("o2",), wake_at=FAR).wake_at == FAR

    @clause("S-WAKE-6")
    def test_a_commit_without_a_wish_leaves_what_a_delivery_did(self, place: StorePlace) -> None:
        """A delivery during a step is not undone by the step's commit: without a wish, ``wake_at`` stays lowered."""
        writer = place.run(wake_at=FAR)
        place.store.deliver([message_to(writer.run_id)])
        lowered = writer.head().wake_at
        assert lowered is not None
        assert lowered < FAR
        writer.write("stepped")
        assert writer.head().wake_at == lowered

    @clause("S-WAKE-7")
    def test_a_mark_never_goes_back(self, place: StorePlace) -> None:
        """An older mark, or none, does not make seen messages unseen again."""
        writer = place.run()
        empty = writer.stored().inbox_mark
        place.store.deliver([message_to(writer.run_id)])
        writer.write("seen", inbox_mark=writer.stored().inbox_mark)
        assert not writer.write("older", inbox_mark=empty).unseen
        assert not writer.write("none", wake_at=None).unseen
        assert writer.head().wake_at is None

    @clause("S-WAKE-8")
    def test_an_ended_run_with_an_outbox_is_still_due(self, place: StorePlace) -> None:
        """Who ended with undelivered messages is due and can be claimed: a child's end must reach its parent."""
        writer = place.run()
        ended = projection_of(status="completed", since=Instant(3))
        writer.write("ended", projection=ended, outbox=(message_to("parent", "end"),), wake_at=None, lease_s=0.0)
        assert due(place, writer.run_id)

    @clause("S-WAKE-9")
    def test_a_held_run_is_not_due(self, place: StorePlace) -> None:
        """While ``held`` says why, a run is not due and not claimed, also when a message comes in; then it is again."""
        writer = place.run()
        writer.write("paused", held="paused", lease_s=0.0)
        place.store.deliver([message_to(writer.run_id)])
        assert writer.head().held == "paused"
        assert not due(place, writer.run_id)
        writer.write("resumed", held="", take=True, lease_s=LEASE_S)
        writer.write(lease_s=0.0)
        assert due(place, writer.run_id)

    @clause("S-WAKE-10")
    def test_every_commit_tells_of_unseen_messages(self, place: StorePlace) -> None:
        """Each commit says whether the inbox holds messages newer than the mark, also a step that asks for nothing."""
        writer = place.run()
        for number in range(1, 4):
            assert not writer.write("quiet").unseen
            assert not writer.write("quiet again").unseen
            place.store.deliver([message_to(writer.run_id, f"m{number}", seq=number)])
            assert writer.write("one came").unseen
            assert writer.write("still there", consumed=("other",)).unseen
            stored = writer.stored()
            assert not writer.write("taken in", consumed=(f"m{number}",), inbox_mark=stored.inbox_mark).unseen


def due(place: StorePlace, run_id: str) -> bool:
    """Whether a claimer gets the run; it is given back at once."""
    heads = place.store.claim(owner="claimer", lease_s=LEASE_S, can_run=Runnable(format=9), run_id=run_id)
    for head in heads:
        RunWriter(place.store, run_id, owner="claimer", fence=head.fence).write(lease_s=0.0)
    return bool(heads)

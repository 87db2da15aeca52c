"""Clauses of the inbox and the outbox: who does not hold a run sends it a message."""

from __future__ import annotations

import pytest
from msgspec import structs

from ...errors import Conflict, UsageError
from ...models import Instant
from ...store.contract import MESSAGE_PAGE, Message, StoredRun
from ..clauses import clause
from ..writer import LEASE_S, message_to
from .leases import claim_all
from .place import StorePlace


def ids_of(stored: StoredRun | None) -> list[str]:
    """The ids of the messages that a look gave."""
    assert stored is not None
    return [message.id for message in stored.messages]


def outcome_of(place: StorePlace, message: Message) -> str:
    """What became of one message."""
    (delivery,) = place.store.deliver([message])
    assert delivery.message_id == message.id
    return delivery.outcome


class MessageClauses:
    """A message is accepted once, known for ever, given until it is consumed."""

    @clause("S-DELIVER-1")
    def test_a_delivered_message_is_in_the_inbox_and_wakes(self, place: StorePlace) -> None:
        """An accepted message is given by ``load`` just as it was sent, and makes its run due."""
        message = Message(
            run_id="target",
            id="m",
            nonce="0f" * 16,
            sender="sender-1",
            seq=3,
            kind="resume",
            key="wait:1",
            payload=b'{"approved": true, "bytes": "\x00\xff"}',
            actor_id="ann",
            sent_at=Instant(1234),
        )
        bare = message_to("target", "bare", sender="other", key="", payload=b"null")
        for wake_at in (None, Instant(place.store.now() + 3_600_000_000)):
            writer = place.free_run(f"target {wake_at}", wake_at=wake_at)
            sent = [structs.replace(each, run_id=writer.run_id) for each in (message, bare)]
            assert [delivery.outcome for delivery in place.store.deliver(sent)] == ["accepted", "accepted"]
            assert list(writer.stored().messages) == sent
            assert claim_all(place) == [writer.run_id]

    @clause("S-DELIVER-2")
    def test_an_id_is_accepted_once(self, place: StorePlace) -> None:
        """A second message of an id is known, and the first one stays as it was."""
        writer = place.run()
        first = message_to(writer.run_id, payload=b'"first"')
        assert outcome_of(place, first) == "accepted"
        assert outcome_of(place, message_to(writer.run_id, payload=b'"second"')) == "known"
        assert list(writer.stored().messages) == [first]

    @clause("S-DELIVER-3")
    def test_a_resend_of_the_same_call_is_accepted_again(self, place: StorePlace) -> None:
        """The same id with the same nonce is accepted again, and lies in the inbox once."""
        writer = place.run()
        message = message_to(writer.run_id)
        assert [outcome_of(place, message) for _ in range(3)] == ["accepted"] * 3
        assert list(writer.stored().messages) == [message]

    @clause("S-DELIVER-4")
    def test_a_message_to_nobody_is_told(self, place: StorePlace) -> None:
        """A message to a run that does not exist is ``unknown_run``, and is not kept for one that comes later."""
        assert outcome_of(place, message_to("later")) == "unknown_run"
        assert place.run("later").stored().messages == ()

    @clause("S-DELIVER-5")
    def test_a_delivery_leaves_the_lease(self, place: StorePlace) -> None:
        """A delivery to a run that is held leaves owner, lease, epoch and length; nobody else gets the run."""
        writer = place.run()
        before = writer.head()
        place.store.deliver([message_to(writer.run_id)])
        head = writer.head()
        assert structs.replace(head, wake_at=before.wake_at) == before
        assert claim_all(place) == []
        writer.write("still mine")

    @clause("S-DELIVER-6")
    def test_a_delivery_never_raises_wake_at(self, place: StorePlace) -> None:
        """A run that is due already keeps its ``wake_at``, and so its place among others."""
        writer = place.free_run(wake_at=Instant(5))
        place.store.deliver([message_to(writer.run_id)])
        assert writer.head().wake_at == 5

    @clause("S-DELIVER-7")
    def test_a_consumed_message_is_not_given_again(self, place: StorePlace) -> None:
        """What a commit consumed is gone from the inbox; its id stays known, and a resend brings nothing back."""
        writer = place.run()
        first, second = message_to(writer.run_id, "m1"), message_to(writer.run_id, "m2", seq=2)
        place.store.deliver([first, second])
        writer.write("took m1", consumed=("m1", "never delivered"))
        assert ids_of(writer.stored()) == ["m2"]
        assert outcome_of(place, first) == "accepted"
        assert outcome_of(place, message_to(writer.run_id, "m1")) == "known"
        assert ids_of(writer.stored()) == ["m2"]

    @clause("S-DELIVER-8")
    def test_a_message_taken_in_by_the_commit_is_known_and_never_given(self, place: StorePlace) -> None:
        """A message inside a commit becomes known with it, and does not lie in the inbox; its resend is accepted."""
        writer = place.run()
        message = message_to(writer.run_id)
        result = writer.write("resumed", messages=(message,), wake_at=None)
        assert (result.unseen, result.wake_at) == (False, None)
        assert writer.stored().messages == ()
        assert outcome_of(place, message) == "accepted"
        assert outcome_of(place, message_to(writer.run_id)) == "known"
        assert writer.stored().messages == ()
        assert writer.head().wake_at is None

    @clause("S-DELIVER-9")
    def test_a_commit_whose_message_id_is_taken_is_refused(self, place: StorePlace) -> None:
        """A commit with a message whose id is known under another nonce is a `Conflict` and leaves no trace: of two
        answers to one question, one wins."""
        delivered, taken_in = place.run(), place.run()
        place.store.deliver([message_to(delivered.run_id)])
        taken_in.write("first", messages=(message_to(taken_in.run_id),))
        for writer in (delivered, taken_in):
            before = writer.stored()
            other = message_to(writer.run_id, "other")
            refused = writer.commit_of("second", messages=(other, message_to(writer.run_id)), consumed=("m1",))
            (result,) = place.store.commit([refused])
            assert isinstance(result.error, Conflict)
            assert writer.stored() == before
            assert outcome_of(place, message_to(writer.run_id, "other")) == "accepted"

    @clause("S-DELIVER-10")
    def test_a_delivered_message_can_be_taken_in_by_its_own_call(self, place: StorePlace) -> None:
        """A commit with a message that the same call had delivered before is applied, and takes it from the inbox."""
        writer = place.run()
        message = message_to(writer.run_id)
        place.store.deliver([message])
        assert not writer.write("resumed", messages=(message,)).unseen
        assert writer.stored().messages == ()

    @clause("S-DELIVER-11")
    def test_each_senders_messages_come_in_its_own_order(self, place: StorePlace) -> None:
        """``load`` gives each sender's messages by ``seq``, in whatever order they arrived."""
        writer = place.run()
        arrived = [("b", 2), ("a", 3), ("b", 1), ("a", 1), ("c", 1), ("a", 2)]
        place.store.deliver([message_to(writer.run_id, f"{s}{n}", sender=s, seq=n) for s, n in arrived])
        ids = ids_of(writer.stored())
        assert sorted(ids) == ["a1", "a2", "a3", "b1", "b2", "c1"]
        for sender in "abc":
            own = [message_id for message_id in ids if message_id[0] == sender]
            assert own == sorted(own)

    @clause("S-DELIVER-12")
    def test_messages_are_answered_in_order(self, place: StorePlace) -> None:
        """One call delivers to many runs and answers in order, each message for itself, also with an id twice."""
        first, second = place.run("first"), place.run("second")
        sent = [
            message_to("first", "m1"),
            message_to("nobody", "m1"),
            message_to("second", "m1"),
            message_to("first", "m1"),
            message_to("first", "m2", seq=2),
        ]
        outcomes = [(delivery.message_id, delivery.outcome) for delivery in place.store.deliver(sent)]
        assert [outcome for _, outcome in outcomes] == ["accepted", "unknown_run", "accepted", "known", "accepted"]
        assert [message_id for message_id, _ in outcomes] == [message.id for message in sent]
        assert (list(first.stored().messages), list(second.stored().messages)) == ([sent[0], sent[4]], [sent[2]])
        assert place.store.deliver([]) == []

    @clause("S-DELIVER-13")
    def test_a_full_inbox_comes_in_pages(self, place: StorePlace) -> None:
        """``load`` gives at most ``MESSAGE_PAGE`` messages, says that others follow, and its mark covers that page and
        no more; what is consumed makes place for the next."""
        writer = place.run()
        count = MESSAGE_PAGE + 3
        for start in range(0, count, 1000):
            numbers = range(start, min(start + 1000, count))
            place.store.deliver([message_to(writer.run_id, f"m{n:04}", seq=n + 1) for n in numbers])
        page = writer.stored()
        assert ids_of(page) == [f"m{n:04}" for n in range(MESSAGE_PAGE)]
        assert page.more_messages
        taken = tuple(ids_of(page))
        assert writer.write("page", consumed=taken, inbox_mark=page.inbox_mark, wake_at=None).unseen
        rest = writer.stored()
        assert ids_of(rest) == [f"m{n:04}" for n in range(MESSAGE_PAGE, count)]
        assert not rest.more_messages
        assert not writer.write("rest", inbox_mark=rest.inbox_mark, wake_at=None).unseen

    @clause("S-DELIVER-14")
    def test_a_writer_looks_behind_messages_that_it_cannot_consume(self, place: StorePlace) -> None:
        """``load`` with the mark of a look before gives only messages that are newer; the mark it gives covers both."""
        writer = place.run()
        place.store.deliver([message_to(writer.run_id, "m1")])
        first = writer.stored()
        empty = place.store.load(writer.run_id, inbox_after=first.inbox_mark)
        assert ids_of(empty) == []
        assert empty is not None
        assert not writer.write("nothing new", inbox_mark=empty.inbox_mark, wake_at=None).unseen
        place.store.deliver([message_to(writer.run_id, "m2", seq=2)])
        second = place.store.load(writer.run_id, inbox_after=first.inbox_mark)
        assert ids_of(second) == ["m2"]
        assert ids_of(writer.stored()) == ["m1", "m2"]
        assert second is not None
        assert not writer.write("seen", inbox_mark=second.inbox_mark, wake_at=None).unseen

    @clause("S-DELIVER-15")
    def test_messages_out_of_bounds_are_refused_together(self, place: StorePlace) -> None:
        """A message with an id of the wrong form, or more than 1,000 in a call, raise, and nothing is delivered."""
        writer = place.run()
        good = message_to(writer.run_id, "good")
        for wrong in (
            message_to(writer.run_id, ""),
            message_to(writer.run_id, "x\0"),
            message_to(writer.run_id, "\ud800"),
        ):
            with pytest.raises(UsageError):
                place.store.deliver([good, wrong])
        with pytest.raises(UsageError):
            place.store.deliver([good] * 1001)
        assert writer.stored().messages == ()

    @clause("S-OUTBOX-1")
    def test_an_outbox_is_kept_until_it_is_delivered(self, place: StorePlace) -> None:
        """Messages to others stand in the sender's outbox, in order and as they were written, until a commit names
        them as delivered; they are in nobody's inbox."""
        writer, target = place.run(), place.run("target")
        sent = [
            message_to("target", f"o{number}", seq=number, payload=b"\x00" * number, sent_at=Instant(number))
            for number in range(4)
        ]
        writer.write("a", outbox=tuple(sent[:3]))
        writer.write("b", outbox=(sent[3],), delivered=("o1", "unknown"))
        assert list(writer.stored().outbox) == [sent[0], sent[2], sent[3]]
        assert target.stored().messages == ()
        writer.write("c", delivered=("o0", "o2", "o3"))
        assert writer.stored().outbox == ()

    @clause("S-OUTBOX-2")
    def test_a_run_is_created_with_its_messages(self, place: StorePlace) -> None:
        """The first commit may take in messages and write an outbox like any other."""
        writer = place.writer()
        given, sent = message_to(writer.run_id), message_to("parent", "start")
        changes = {"messages": (given,), "outbox": (sent,), "lease_s": LEASE_S, "wake_at": None}
        result = writer.write("created", projection=place.run().head().projection, **changes)
        assert result.wake_at is not None
        assert list(writer.stored().outbox) == [sent]
        assert outcome_of(place, message_to(writer.run_id)) == "known"

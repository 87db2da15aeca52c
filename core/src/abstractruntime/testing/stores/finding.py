"""Clauses of `Store.find`: each condition, each order, page by page."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

import pytest
from msgspec import structs

from ...errors import InvalidValue
from ...models import Instant
from ...store.contract import RunHead, RunQuery, Store, WaitHead
from ..clauses import clause
from ..writer import LEASE_S, projection_of
from .place import StorePlace

Order = Literal["since", "wake_at", "id"]
ORDERS: tuple[Order, ...] = ("since", "wake_at", "id")


def wait(reason: str, key: str) -> WaitHead:
    """An open wait."""
    return WaitHead(wait_id=f"{reason}:{key}", reason=reason, wait_key=key)


def ids(store: Store, **conditions: object) -> list[str]:
    """The ids of one page."""
    return [head.run_id for head in store.find(structs.replace(RunQuery(limit=1000), **conditions)).items]


def pages(store: Store, query: RunQuery) -> Iterator[RunHead]:
    """All pages, one after the other. A run that comes twice ends it: paging could go on for ever."""
    seen: set[str] = set()
    while True:
        page = store.find(query)
        assert len(page.items) <= query.limit
        found = {head.run_id for head in page.items}
        assert len(found) == len(page.items)
        assert not found & seen
        seen |= found
        yield from page.items
        if page.cursor is None:
            return
        assert page.items, "a page with a cursor has heads"
        query = structs.replace(query, cursor=page.cursor)


def matches(head: RunHead, query: RunQuery, now: Instant) -> bool:
    """What the contract says about a head and a query, in its plainest form."""
    run = head.projection
    due = (
        head.wake_at is not None
        and head.wake_at <= now
        and (head.lease_until is None or head.lease_until <= now)
        and not head.held
    )
    return (
        (query.status is None or run.status in query.status)
        and query.workflow_id in (None, run.workflow_id)
        and query.queue in (None, run.queue)
        and query.parent_run_id in (None, run.parent_run_id)
        and query.root_run_id in (None, run.root_run_id)
        and query.session_id in (None, run.session_id)
        and set(query.tags) <= set(run.tags)
        and query.due in (None, due)
        and (query.order != "wake_at" or head.wake_at is not None)
        and (
            (query.wait_reason is None and query.wait_key is None)
            or any(
                query.wait_reason in (None, w.reason) and query.wait_key in (None, w.wait_key) for w in run.waits
            )
        )
    )  # fmt: skip


def in_order(heads: list[RunHead], query: RunQuery) -> list[str]:
    """The ids in the order asked for: ties by id, ascending."""
    if query.order == "id":
        return sorted((head.run_id for head in heads), reverse=query.descending)
    sign = -1 if query.descending else 1
    by_since = query.order == "since"
    ranked = sorted((sign * (head.projection.since if by_since else head.wake_at or 0), head.run_id) for head in heads)
    return [run_id for _, run_id in ranked]


class FindClauses:
    """Heads are found by what the engine said about them and by what the store knows."""

    @clause("S-FIND-1")
    def test_each_condition_selects(self, place: StorePlace) -> None:
        """Status, workflow, queue, parent, root, session, wait reason, wait key and tags each select their runs."""
        conditions = (
            ("status", "waiting", ("waiting",)),
            ("workflow_id", "other", "other"),
            ("queue", "slow", "slow"),
            ("parent_run_id", "mum", "mum"),
            ("root_run_id", "gran", "gran"),
            ("session_id", "s", "s"),
            ("tags", ("x",), ("x",)),
        )
        place.run("plain")
        for field, value, _ in conditions:
            place.run(f"by {field}", projection=projection_of(**{field: value}))
        place.run("by wait", projection=projection_of(waits=(wait("user", "k"), wait("event", "l"))))
        for field, _, condition in conditions:
            assert ids(place.store, **{field: condition}) == [f"by {field}"]
            assert ids(place.store, **{field: ("none",) if isinstance(condition, tuple) else "none"}) == []
        for changes in ({"wait_reason": "user"}, {"wait_reason": "event"}, {"wait_key": "k"}, {"wait_key": "l"}):
            assert ids(place.store, **changes) == ["by wait"]
        assert len(ids(place.store)) == len(conditions) + 2
        assert ids(place.store, status=()) == []
        assert len(ids(place.store, status=("waiting", "running"))) == len(conditions) + 2

    @clause("S-FIND-2")
    def test_one_wait_has_both_reason_and_key(self, place: StorePlace) -> None:
        """Wait reason and wait key have to be of the same wait."""
        place.run("both", projection=projection_of(waits=(wait("event", "j"), wait("user", "k"))))
        place.run("apart", projection=projection_of(waits=(wait("user", "j"), wait("event", "k"))))
        assert ids(place.store, wait_reason="user", wait_key="k") == ["both"]
        assert ids(place.store, wait_reason="event", wait_key="k") == ["apart"]
        assert ids(place.store, wait_key="k") == ["apart", "both"]

    @clause("S-FIND-3")
    def test_a_run_has_all_tags_that_are_asked_for(self, place: StorePlace) -> None:
        """Of several tags a run must have each."""
        for tags in (("a",), ("a", "b"), ("b",), ("a", "b", "c")):
            place.run("".join(tags), projection=projection_of(tags=tags))
        assert ids(place.store, tags=("a", "b")) == ["ab", "abc"]
        assert ids(place.store, tags=("b",)) == ["ab", "abc", "b"]

    @clause("S-FIND-4")
    def test_due_runs_are_told_from_others(self, place: StorePlace) -> None:
        """``due`` selects what could be claimed now, or what could not: by time, lease and hold."""
        future = Instant(place.store.now() + 3_600_000_000)
        place.free_run("due")
        place.free_run("later", wake_at=future)
        place.free_run("never", wake_at=None)
        place.free_run("held", held="moving")
        place.run("leased")
        assert ids(place.store, due=True) == ids(place.store, due=True, order="wake_at") == ["due"]
        assert ids(place.store, due=False) == ["held", "later", "leased", "never"]
        assert sorted(ids(place.store, due=False, order="wake_at")) == ["held", "later", "leased"]

    @clause("S-FIND-5")
    def test_runs_come_in_the_order_asked_for(self, place: StorePlace) -> None:
        """By ``since``, by ``wake_at`` (only runs that have one) or by id, either way; ties by id, ascending."""
        for run_id, since, wake_at in (("c", 1, 30), ("a", 2, None), ("é", 2, 10), ("B", 2, 30), ("b", 3, 10)):
            place.run(run_id, projection=projection_of(since=Instant(since)), wake_at=wake_at)
        assert ids(place.store) == ["c", "B", "a", "é", "b"]
        assert ids(place.store, descending=True) == ["b", "B", "a", "é", "c"]
        assert ids(place.store, order="wake_at") == ["b", "é", "B", "c"]
        assert ids(place.store, order="wake_at", descending=True) == ["B", "c", "b", "é"]
        assert ids(place.store, order="id") == ["B", "a", "b", "c", "é"]
        assert ids(place.store, order="id", descending=True) == ["é", "c", "b", "a", "B"]

    @clause("S-FIND-6")
    def test_pages_cover_all_runs_once(self, place: StorePlace) -> None:
        """Page by page each run comes once, in order, for every order, way and page size; the last has no cursor."""
        for number in range(23):
            projection = projection_of(since=Instant(number // 5), status=("running", "waiting", "failed")[number % 3])
            place.run(f"run {number:02}", projection=projection, wake_at=Instant(number % 4 + 1))
        for order in ORDERS:
            for descending in (False, True):
                query = RunQuery(order=order, descending=descending, limit=1000)
                whole = place.store.find(query)
                assert (len(whole.items), whole.cursor) == (23, None)
                for limit in (1, 4, 22, 23):
                    assert list(pages(place.store, structs.replace(query, limit=limit))) == list(whole.items)

    @clause("S-FIND-7")
    def test_a_found_head_is_the_runs_head(self, place: StorePlace) -> None:
        """What is found is what ``load`` gives as head, in every field."""
        projection = projection_of(waits=(wait("user", "k"),), tags=("a",), session_id="s", priority=-3)
        writer = place.run(projection=projection, wake_at=Instant(17))
        writer.write("x", held="paused", lease_s=LEASE_S)
        assert place.store.find(RunQuery()).items == (writer.head(),)

    @clause("S-FIND-8")
    def test_a_changed_run_is_found_as_it_is(self, place: StorePlace) -> None:
        """After a commit the run is found by what it is now, and no longer by what it was."""
        old = {"status": "waiting", "tags": ("old",), "session_id": "old", "parent_run_id": "old", "queue": "old"}
        new = {"status": "failed", "tags": ("new",), "session_id": "new", "parent_run_id": "new", "queue": "new"}
        writer = place.run(projection=projection_of(waits=(wait("user", "old"),), **old))
        writer.write("x", projection=projection_of(waits=(wait("event", "new"),), since=Instant(9), **new))
        for field, value in [*old.items(), ("wait_key", "old"), ("wait_reason", "user")]:
            assert ids(place.store, **{field: (value,) if field == "status" else value}) == []
        for field, value in [*new.items(), ("wait_key", "new"), ("wait_reason", "event")]:
            assert ids(place.store, **{field: (value,) if field == "status" else value}) == [writer.run_id]

    @clause("S-FIND-9")
    def test_a_query_out_of_bounds_is_refused(self, place: StorePlace) -> None:
        """A page of no heads or of more than 1,000, and a cursor that is from no page of this order, are an
        `InvalidValue`."""
        for number in range(3):
            place.run(f"{number}")
        cursor = place.store.find(RunQuery(limit=1)).cursor
        assert cursor is not None
        for query in (
            RunQuery(limit=0),
            RunQuery(limit=1001),
            RunQuery(cursor="no cursor"),
            RunQuery(cursor=cursor, order="id"),
            RunQuery(cursor=cursor, descending=True),
        ):
            with pytest.raises(InvalidValue):
                place.store.find(query)

    @clause("S-FIND-10")
    def test_conditions_and_orders_go_together(self, place: StorePlace) -> None:
        """Any conditions together, in any order, give exactly the runs that fulfil all of them (a random trial)."""
        dice = random.Random(1)  # noqa: S311 - to be the same each time
        now = place.store.now()
        heads = []
        for number in range(60):
            one = dice.choice
            projection = projection_of(
                workflow_id=one(("flow", "other")),
                status=one(("running", "waiting", "failed")),
                since=Instant(dice.randrange(6)),
                waits=tuple(wait(one(("user", "event")), f"k{n}") for n in range(dice.randrange(3))),
                queue=one(("default", "slow")),
                parent_run_id=one((None, "p", "q")),
                root_run_id=one((None, "r")),
                session_id=one((None, "s", "t")),
                tags=tuple(sorted(dice.sample("abc", dice.randrange(4)))),
            )
            wake_at = one((None, Instant(now - 5), Instant(now - 4), Instant(now + 3_600_000_000)))
            held = one(("", "", "", "paused"))
            writer = place.run(
                f"{number:02}", projection=projection, wake_at=wake_at, held=held, lease_s=one((0.0, 60.0))
            )
            heads.append(writer.head())
        choices: dict[str, tuple[object, ...]] = {
            "status": (("waiting",), ("running", "failed"), ()),
            "workflow_id": ("flow", "other"),
            "queue": ("default", "slow"),
            "wait_reason": ("user", "event"),
            "wait_key": ("k0", "k1"),
            "parent_run_id": ("p", "q"),
            "root_run_id": ("r",),
            "session_id": ("s", "t"),
            "tags": (("a",), ("a", "c")),
            "due": (True, False),
        }
        for _ in range(300):
            conditions = {field: dice.choice(values) for field, values in choices.items() if dice.random() < 0.25}
            query = structs.replace(
                RunQuery(
                    order=dice.choice(ORDERS), descending=dice.random() < 0.5, limit=dice.choice((1, 7, 100))
                ),
                **conditions,
            )  # fmt: skip
            expected = in_order([head for head in heads if matches(head, query, now)], query)
            assert [head.run_id for head in pages(place.store, query)] == expected, query

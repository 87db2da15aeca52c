"""The kit is proved: of stores that are broken on purpose, each in one way, it names the clauses that do not hold."""

import time
import uuid
from typing import ClassVar

import pytest
from msgspec import UNSET, structs

from abstractruntime.models import Instant
from abstractruntime.store import fence
from abstractruntime.store.catalogue import Bucket
from abstractruntime.store.contract import RunQuery
from abstractruntime.store.memory import MemoryStore
from abstractruntime.testing import StoreConformance, StorePlace, VirtualClock, clauses_of

CLAUSES = clauses_of(StoreConformance)


class Saboteur(MemoryStore):
    """``breaks``: the clauses that do not hold, all of them."""

    breaks: ClassVar[set[str]]


class ComparesNoHash(Saboteur):
    """After a restored backup, a worker from the lost future writes on."""

    breaks: ClassVar = {"S-COMMIT-4"}

    def _refusal(self, commit, now):
        run = self._space.runs.get(commit.run_id)
        if run is not None:
            commit = structs.replace(commit, expect=structs.replace(commit.expect, head_hash=run.head_hash))
        return super()._refusal(commit, now)


class ComparesNoEpoch(Saboteur):
    """A worker that lost the run and got its name back writes what it had in hand."""

    breaks: ClassVar = {"S-COMMIT-5"}

    def _refusal(self, commit, now):
        run = self._space.runs.get(commit.run_id)
        if run is not None:
            commit = structs.replace(commit, expect=structs.replace(commit.expect, epoch=run.epoch))
        return super()._refusal(commit, now)


class ClaimsInTwoSteps(Saboteur):
    """Between looking and leasing, another claimer looks too."""

    breaks: ClassVar = {"S-CROWD-3"}

    def claim(self, *, owner, lease_s, can_run, limit=1, run_id=None):
        fence.check_id(owner, "owner")
        self._check_open()
        due = self.find(RunQuery(due=True, order="wake_at", limit=1000)).items
        mine = [h for h in due if Bucket.of(h.projection).suits(can_run) and run_id in (None, h.run_id)]
        mine = sorted(mine, key=lambda head: -head.projection.priority)[:limit]
        time.sleep(0.005)
        with self._space.lock:
            for head in mine:
                run = self._space.runs[head.run_id]
                run.epoch += 1
                run.claims += 1
                self._space.lease(run, owner, fence.lease_end(self.now(), lease_s))
            return [self._space.runs[head.run_id].head for head in mine]


class EndsTheLeaseOnDelivery(Saboteur):
    """Whoever sends a message takes the run away from its owner."""

    breaks: ClassVar = {"S-DELIVER-5"}

    def _deliver(self, message, now):
        run = self._space.runs.get(message.run_id)
        if run is not None and run.lease_until is not None:
            self._space.lease(run, run.owner, now)
        return super()._deliver(message, now)


class ParksOverTheUnseen(Saboteur):
    """The wish of a parking commit wins over what came in since: the run sleeps for ever."""

    breaks: ClassVar = {"S-WAKE-2"}

    def _apply(self, commit, now):
        run = super()._apply(commit, now)
        if commit.wake_at is not UNSET and not run.outbox:
            self._space.schedule(run, commit.wake_at)
        return run


class OverwritesWakeAt(Saboteur):
    """A commit writes the head as its writer knew it, and undoes a delivery."""

    breaks: ClassVar = {"S-WAKE-6"}

    def _apply(self, commit, now):
        known = self.__dict__.setdefault("known", {})
        run = super()._apply(commit, now)
        if commit.wake_at is UNSET and not run.outbox and commit.run_id in known:
            self._space.schedule(run, known[commit.run_id])
        known[commit.run_id] = run.wake_at
        return run


class ForgetsTheOutboxOfAnEndedRun(Saboteur):
    """A child ended, and its parent never hears of it."""

    breaks: ClassVar = {"S-WAKE-8"}

    def _apply(self, commit, now):
        run = super()._apply(commit, now)
        if run.projection.status == "completed":
            self._space.schedule(run, None if commit.wake_at is UNSET else commit.wake_at)
        return run


class MovesTheMarkBack(Saboteur):
    """An older mark makes seen messages unseen, and the run spins."""

    breaks: ClassVar = {"S-WAKE-7"}

    def _take_in(self, run, commit):
        super()._take_in(run, commit)
        if commit.inbox_mark is not None:
            run.mark = int.from_bytes(commit.inbox_mark, "big")


class ForgetsConsumedIds(Saboteur):
    """The second answer to a question is taken for the first one to the next."""

    breaks: ClassVar = {"S-DELIVER-7", "S-OPEN-2"}

    def _take_in(self, run, commit):
        super()._take_in(run, commit)
        for message_id in commit.consumed:
            run.known.pop(message_id, None)


class KeepsTheMessagesOfARefusedCommit(Saboteur):
    """A refused commit has marked its messages as known."""

    breaks: ClassVar = {"S-COMMIT-7", "S-DELIVER-9"}

    def _refusal(self, commit, now):
        error = super()._refusal(commit, now)
        run = self._space.runs.get(commit.run_id)
        if error is not None and run is not None:
            for message in commit.messages:
                run.known.setdefault(message.id, message.nonce)
        return error


class SwallowsLeased(Saboteur):
    """Says that a commit was applied that was not."""

    breaks: ClassVar = {"S-TAKE-2", "S-TAKE-4"}

    def commit(self, commits):
        results = super().commit(commits)
        return [structs.replace(r, error=None) if r.error and r.error.code == "leased" else r for r in results]


class TakesFromAnybody(Saboteur):
    """Whoever names an owner, any owner, gets the run."""

    breaks: ClassVar = {"S-TAKE-4"}

    def _refusal(self, commit, now):
        run = self._space.runs.get(commit.run_id)
        if run is not None and commit.take_from is not None:
            commit = structs.replace(commit, take_from=run.owner)
        return super()._refusal(commit, now)


class ReusesDeletedIds(Saboteur):
    """A deleted run comes back as another one."""

    breaks: ClassVar = {"S-DELETE-2", "S-OPEN-2"}

    def delete(self, run_id):
        super().delete(run_id)
        self._space.tombstones.discard(run_id)


class KnowsOneNamespace(Saboteur):
    """Tenants see each other's runs."""

    breaks: ClassVar = {"S-OPEN-3"}

    def __init__(self, clock, namespace, *, name):
        super().__init__(clock, "default", name=name)


class RenewsEverybody(Saboteur):
    """One worker that lives keeps the leases of the dead."""

    breaks: ClassVar = {"S-RENEW-1"}

    def renew(self, owner, lease_s):
        self._check_open()
        heads = super().renew(owner, lease_s)
        with self._space.lock:
            for run in self._space.runs.values():
                if run.lease_until is not None and run.lease_until > self.now():
                    self._space.lease(run, run.owner, Instant(self.now() + round(lease_s * 1_000_000)))
        return heads


class CutsPagesShort(Saboteur):
    """The page that ends on a tie loses what is left of it."""

    breaks: ClassVar = {"S-FIND-6", "S-FIND-10"}

    def find(self, query):
        page = super().find(query)
        if page.cursor is None or query.order == "id":
            return page
        last = structs.replace(page.items[-1], run_id=chr(0x10FFFF) * 8)
        return structs.replace(page, cursor=fence.cursor_after(query, last))


def broken_clauses(kind):
    """The ids of the clauses that do not hold for a kind of memory store."""
    broken = set()
    for clause in CLAUSES.values():
        clock, name = VirtualClock(), str(uuid.uuid4())
        with StorePlace(lambda namespace, c=clock, n=name: kind(c, namespace, name=n), clock=clock) as place:
            try:
                getattr(StoreConformance(), clause.test)(place)
            except pytest.skip.Exception:
                continue
            except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever it is, the clause does not hold
                broken.add(clause.id)
    return broken


def test_the_reference_breaks_no_clause():
    assert broken_clauses(MemoryStore) == set()


@pytest.mark.parametrize("kind", Saboteur.__subclasses__(), ids=lambda kind: kind.__name__)
def test_a_saboteur_is_caught_by_the_clauses_that_it_breaks(kind):
    assert broken_clauses(kind) == kind.breaks


def test_every_clause_has_one_sentence_and_an_id_without_gaps():
    subjects = {}
    for clause_id in CLAUSES:
        subject, _, number = clause_id.rpartition("-")
        subjects.setdefault(subject, []).append(int(number))
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in subjects.values())
    assert all(clause.sentence.endswith(".") for clause in CLAUSES.values())


def test_every_test_of_the_kit_is_a_clause():
    tests = {name for name in dir(StoreConformance) if name.startswith("test")}
    assert tests == {clause.test for clause in CLAUSES.values()}

"""Clauses of concurrency and crashes: many threads, many stores, many processes, and kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ...errors import Conflict
from ...store.contract import Store
from .. import worker
from ..clauses import clause
from ..writer import LEASE_S, RunWriter, hash_after, message_to, record_of
from .leases import ANY
from .place import StorePlace

T = TypeVar("T")
THREADS = 8
PROCESSES = 4


def in_threads(work: Callable[[int], T], count: int = THREADS) -> list[T]:
    """What so many threads give that begin together; raises what one of them raises."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def in_processes(place: StorePlace, *arguments: str, count: int = PROCESSES) -> list[list[str]]:
    """The lines that so many processes write that begin together: each opens the store and says ``ready`` first."""
    processes = [start(place, *arguments, str(number)) for number in range(count)]
    try:
        for process in processes:
            assert line_of(process) == "ready", "the worker could not open the store"
        for process in processes:
            say(process, "go")
        outputs = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * count, [errors for _, errors in outputs]
    return [output.splitlines() for output, _ in outputs]


def start(place: StorePlace, *arguments: str) -> subprocess.Popen[str]:
    """A worker process at the place."""
    return subprocess.Popen(
        [sys.executable, "-m", worker.__name__, place.url(), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a worker writes."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line and process.stderr is not None:
        raise AssertionError(process.stderr.read())
    return line.rstrip("\n")


def say(process: subprocess.Popen[str], line: str) -> None:
    """Write a line to a worker."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


class CrowdClauses:
    """However many there are, each commit is applied once and each run has one owner."""

    @clause("S-CROWD-1")
    def test_threads_share_a_store(self, place: StorePlace) -> None:
        """Threads that write different runs through one store hinder nobody, and all they wrote is there."""
        writers = [place.run(f"run {number}") for number in range(THREADS)]

        def write(number: int) -> None:
            for step in range(30):
                writers[number].write(f"step {step}")
                place.store.deliver([message_to(f"run {(number + 1) % THREADS}", f"{number}-{step}", seq=step + 1)])

        in_threads(write)
        for writer in writers:
            stored = writer.stored()
            assert stored.head.fence == writer.fence
            assert (len(stored.records), len(stored.messages)) == (31, 30)

    @clause("S-CROWD-2")
    def test_of_many_writers_at_one_fence_one_wins(self, place: StorePlace) -> None:
        """Of threads that commit at the same place of one run, each place is won by exactly one, and none is lost."""
        run_id = place.run().run_id

        def race(number: int) -> int:
            won = 0
            for _ in range(20):
                stored = place.store.load(run_id)
                assert stored is not None
                racer = RunWriter(place.store, run_id, fence=stored.head.fence)
                error = racer.attempt(f"by {number}").error
                assert error is None or isinstance(error, Conflict)
                won += error is None
            return won

        won = in_threads(race)
        stored = place.store.load(run_id)
        assert stored is not None
        assert stored.head.length == len(stored.records) == 1 + sum(won)
        assert stored.head.head_hash == hash_after("", stored.records)

    @clause("S-CROWD-3")
    def test_of_many_claimers_each_run_goes_to_one(self, place: StorePlace) -> None:
        """Threads that claim at once, through one store and through several, get each due run exactly once."""
        for number in range(60):
            place.free_run(f"run {number}")
        stores = [place.store, place.open()]

        def claim(number: int) -> list[str]:
            return claimed_by(stores[number % 2], f"claimer {number}")

        claims = Counter(run_id for run_ids in in_threads(claim) for run_id in run_ids)
        assert claims == Counter(f"run {number}" for number in range(60))

    @clause("S-CROWD-4")
    def test_of_many_takers_one_gets_the_run(self, place: StorePlace) -> None:
        """Threads that take one free run in their commit: exactly one is its owner."""
        writer = place.free_run()

        def take(number: int) -> bool:
            taker = RunWriter(place.store, writer.run_id, owner=f"taker {number}", fence=writer.fence)
            return taker.attempt("mine", take=True, lease_s=LEASE_S).error is None

        assert sum(in_threads(take)) == 1
        assert (writer.head().length, writer.head().epoch) == (2, 2)

    @clause("S-CROWD-5")
    def test_of_many_answers_to_one_question_one_is_accepted(self, place: StorePlace) -> None:
        """Threads that deliver messages of one id from different calls: one is accepted, the others learn that."""
        writer = place.run()

        def answer(number: int) -> str:
            (delivery,) = place.store.deliver([message_to(writer.run_id, sender=f"sender {number}")])
            return delivery.outcome

        assert Counter(in_threads(answer)) == {"accepted": 1, "known": THREADS - 1}
        assert len(writer.stored().messages) == 1

    @clause("S-CROWD-6")
    def test_processes_share_a_place(self, place: StorePlace) -> None:
        """Processes that commit at once (``multi_process``) get no error of a lock, and all they wrote is there."""
        place.needs("multi_process")
        in_processes(place, "write", "150")
        for number in range(PROCESSES):
            stored = place.store.load(f"run {number}")
            assert stored is not None
            assert stored.records == tuple(record_of(f"step {step}") for step in range(150))

    @clause("S-CROWD-7")
    def test_processes_never_hold_one_run_together(self, place: StorePlace) -> None:
        """Processes that claim at once (``multi_process``) get each due run exactly once."""
        place.needs("multi_process")
        for number in range(100):
            place.free_run(f"run {number}")
        claims = Counter(line for lines in in_processes(place, "claim") for line in lines)
        assert claims == Counter(f"run {number}" for number in range(100))

    @clause("S-CROWD-8")
    def test_processes_race_for_one_run_under_its_fence(self, place: StorePlace) -> None:
        """Processes that commit to one run at once (``multi_process``): the ledger is one chain, and nobody who was
        told of success is missing."""
        place.needs("multi_process")
        writer = place.run("shared")
        outputs = in_processes(place, "race", "100")
        won = sum(int(lines[-1]) for lines in outputs)
        stored = writer.stored()
        assert stored.head.length == len(stored.records) == 1 + won
        assert stored.head.head_hash == hash_after("", stored.records)

    @clause("S-CRASH-1")
    def test_a_killed_process_loses_no_answered_commit(self, place: StorePlace) -> None:
        """After kill -9 in the middle of commits (``durable_process``) all that were answered are there, at most the
        one under way besides, and the place can be used at once."""
        place.needs("multi_process")
        place.needs("durable_process")
        for number, after in enumerate((1, 20, 75)):
            answered = killed_after(place, number, lines=after)
            run_id = f"run {number}"
            stored = place.store.load(run_id)
            assert stored is not None
            assert answered <= stored.head.length <= answered + 1
            assert stored.records == tuple(record_of(f"step {step}") for step in range(stored.head.length))
            assert stored.head.head_hash == hash_after("", stored.records)
            assert len(list(place.open().ledger(run_id))) == stored.head.length
            RunWriter(place.store, run_id, owner="writer", fence=stored.head.fence).write("goes on")

    @clause("S-CRASH-2")
    def test_a_killed_owner_is_a_lease_that_runs_out(self, place: StorePlace) -> None:
        """A run whose process was killed (``multi_process``) stays its own until the lease is over; then it is free."""
        place.needs("multi_process")
        killed_after(place, 0, lines=5, lease_s=1.0)
        assert place.store.claim(owner="me", lease_s=LEASE_S, can_run=ANY) == []
        place.pass_time(1.0)
        (head,) = place.store.claim(owner="me", lease_s=LEASE_S, can_run=ANY)
        assert (head.run_id, head.epoch) == ("run 0", 2)


def claimed_by(store: Store, owner: str) -> list[str]:
    """All run ids that one claimer gets until there are none."""
    claimed: list[str] = []
    while heads := store.claim(owner=owner, lease_s=LEASE_S, can_run=ANY, limit=3):
        claimed += [head.run_id for head in heads]
    return claimed


def killed_after(place: StorePlace, number: int, *, lines: int, lease_s: float = LEASE_S) -> int:
    """How many commits a process said were answered, that was killed after so many of them or a few more."""
    process = start(place, "write", "1000000", json.dumps(lease_s), str(number))
    try:
        assert line_of(process) == "ready"
        say(process, "go")
        for _ in range(lines):
            line_of(process)
        os.kill(process.pid, signal.SIGKILL)
        assert process.stdout is not None
        rest = process.stdout.read()  # of the reader that gave the lines before: it may hold some already
    finally:
        process.kill()
        process.communicate()
    return lines + rest.count("\n")

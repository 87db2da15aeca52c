"""The driver: starts a run per letter, has a worker move them, kills it once, takes questions to whoever answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from approvals import Approver
from batch import Batch, save_batch
from payments import PaymentsFile
from proof import gather
from screen import Screen, money_text
from worker import WorkerDied, WorkerPlace, WorkerProcess
from workflow import PAYABLE

from abstractruntime import RunState, RunStatus, Runtime, WaitReason
from abstractruntime.errors import DuplicateRun
from abstractruntime.models import JsonDict

KILL_AT_PAYMENT = 3
MOST_DEATHS = 5
MOST_FAILURES = 3
QUESTIONS_PER_LETTER = 3


class Stuck(Exception):
    """The demo cannot go on by itself; the message says at what."""


class Driver:
    """Works through a batch.

    `folder`: where the batch is noted. `runtime` starts runs and looks at them; only the worker moves them.
    """

    def __init__(
        self, *, folder: Path, batch: Batch, runtime: Runtime, place: WorkerPlace, approver: Approver, screen: Screen
    ) -> None:
        self._folder = folder
        self._batch = batch
        self._runtime = runtime
        self._place = place
        self._approver = approver
        self._screen = screen
        self._payments = PaymentsFile(place.payments)
        self._deaths = 0
        self._failures = 0
        self._worker = self._hire()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is KeyboardInterrupt:
            self._screen.say("\nStopping when the worker has done its step; Ctrl-C again kills it.")
        self._worker.close()

    def work_through(self) -> None:
        """Take every run as far as it goes by itself, then have the questions answered."""
        self._start_runs()
        with self._screen.bar(len(self._batch.files)) as bar:
            for number, file in enumerate(self._batch.files, start=1):
                bar.at(file)
                self._read(f"{number:2}/{len(self._batch.files)}  {file}", file)
                bar.advance()
        asking = [state for state in self._states() if _asks(state)]
        for number, state in enumerate(asking, start=1):
            self._have_answered(f"{number:2}/{len(asking)}", state)

    def finish(self) -> None:
        """Note that the batch is done, so that the next call begins another one."""
        self._batch = save_batch(self._folder, replace(self._batch, finished=True))

    def _start_runs(self) -> None:
        for file in self._batch.files:
            try:
                self._runtime.start(
                    workflow=PAYABLE,
                    run_id=self._batch.run_id(file),
                    vars={"context": {"file": file}},
                    tags=("invoices-demo", self._batch.name),
                )
            except DuplicateRun:
                continue  # by the call that this one continues

    def _states(self) -> list[RunState]:
        return [self._runtime.get_state(self._batch.run_id(file)) for file in self._batch.files]

    def _read(self, label: str, file: str) -> None:
        run_id = self._batch.run_id(file)
        before = self._runtime.get_state(run_id)
        if before.status is RunStatus.COMPLETED or _asks(before):
            self._screen.say(f"{label}  {_outcome(before)} (before)")
            return
        command = "retry" if before.status is RunStatus.FAILED else "tick"
        state = self._drive({"do": command, "run_id": run_id})
        self._screen.say(f"{label}  {_outcome(state)}")
        failed = state.status in (RunStatus.FAILED, RunStatus.RUNNING)  # running: the worker could not move it
        self._failures = self._failures + 1 if failed else 0
        if self._failures == MOST_FAILURES:
            raise Stuck(
                f"{MOST_FAILURES} letters in a row failed. When the reason is gone, the same command goes on; "
                "with --fresh it begins anew."
            )

    def _have_answered(self, label: str, state: RunState) -> None:
        """Take a run's questions to the approver until it has no more."""
        for _ in range(QUESTIONS_PER_LETTER):
            if not _asks(state) or state.waiting is None:
                break
            question = state.waiting.details or {}
            answer = self._approver.answer(question)
            state = self._drive(
                {"do": "resume", "run_id": state.run_id, "wait_key": state.waiting.wait_key, "payload": answer}
            )
            self._screen.say(f"{label}  {question['file']}  {answer['choice']}: {_outcome(state)}")

    # -- the worker ----------------------------------------------------------------------------------------------------

    def _drive(self, command: JsonDict) -> RunState:
        """Have a command carried out, by the next worker where one dies, and return where the run stands then."""
        run_id, deaths = str(command["run_id"]), self._deaths
        while True:
            try:
                for event in self._worker.carry_out(command):
                    self._notice(event)
                break
            except WorkerDied as died:
                self._deaths += 1
                if self._deaths > MOST_DEATHS:
                    raise Stuck(f"{self._deaths} workers died, the last one at run {run_id}") from died
                self._worker.close()
                self._worker = self._hire()
                self._screen.say(
                    f"       worker {died.pid} is dead; worker {self._worker.pid} takes over", style="yellow"
                )
                command = {"do": "tick", "run_id": run_id}
        if self._deaths > deaths:
            self._tell_what_was_found(run_id)
        return self._runtime.get_state(run_id)

    def _hire(self) -> WorkerProcess:
        freeze_at = None if self._batch.crash_shown else max(KILL_AT_PAYMENT, len(self._payments.all()) + 1)
        return WorkerProcess(self._place, freeze_at_payment=freeze_at)

    def _notice(self, event: JsonDict) -> None:
        match event["event"]:
            case "in the act":
                self._kill()
            case "leased":
                self._screen.say("       the run is still leased to the dead one: waiting until the lease runs out")
            case "in_doubt":
                self._screen.say(
                    "       the payment may be under way until its time is up: waiting, then looking it up"
                )
            case "refused":
                self._screen.say(f"       {event['message']}", style="red")

    def _kill(self) -> None:
        """Kill the worker that has written a payment and has not told the runtime."""
        # Noted first: a demo that is killed right here must not kill a worker at every call.
        self._batch = save_batch(self._folder, replace(self._batch, crash_shown=True))
        self._worker.kill()
        self._screen.say(
            f"       worker {self._worker.pid} was killed (SIGKILL) while paying: the payment stands in "
            f"{self._payments.path.name}, its outcome does not stand in the ledger",
            style="yellow",
        )

    def _tell_what_was_found(self, run_id: str) -> None:
        found = gather(self._runtime, [run_id], self._payments.all())[0]
        if found.reconciled:
            self._screen.say(
                f"       payment {found.reconciled[0][:8]}… was found in the file: not repeated", style="yellow"
            )


def _asks(state: RunState) -> bool:
    return state.waiting is not None and state.waiting.reason is WaitReason.USER


def _outcome(state: RunState) -> str:
    """Where a run stands, in a line."""
    if state.status is RunStatus.COMPLETED and state.output is not None:
        by = state.output["decided_by"]
        if not state.output["accepted"]:
            return f"rejected by {by}"
        invoice = cast("JsonDict", state.output["invoice"])
        return (
            f"paid {invoice['currency']} {money_text(str(invoice['total']))} to {invoice['vendor']}, approved by {by}"
        )
    if _asks(state) and state.waiting is not None:
        doubts = cast("list[JsonDict]", (state.waiting.details or {})["doubts"])
        return f"for a person: {'; '.join(str(doubt['reason']) for doubt in doubts)}"
    if state.waiting is not None:
        return f"parked as {state.waiting.wait_key}; `art resolve {state.run_id}` can say what became of it"
    return f"{state.status}: {state.error or 'it did not go on'}"

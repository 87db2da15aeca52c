"""The worker: a process that drives runs as it is told, and that may be killed at any moment.

It reads one command per line of JSON from its standard input, answers with events on its standard output, and dies with
whoever holds its input. Store, model and leases come from the environment (`ABSTRACTRUNTIME_*`), as for any program on
the runtime.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from payments import Payment, PaymentsFile
from workflow import PAYABLE, effect_handlers

from abstractruntime import Runtime, open_runtime
from abstractruntime.errors import AbstractRuntimeError, Conflict, Leased
from abstractruntime.models import JsonDict

POLL_S = 0.1
PATIENCE_S = 60.0
_END_TIMEOUT_S = 5.0


class WorkerDied(Exception):
    """The worker ended while a command was at work. `pid`: which it was."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"worker {pid} died")
        self.pid = pid


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """Where a worker works: the letters, the payments file, and the variables of its environment."""

    letters: Path
    payments: Path
    environment: dict[str, str]


class WorkerProcess:
    """The worker as its starter sees it.

    `freeze_at_payment`: the worker stops still after it has written that payment (counted in the file) and before it
    tells the runtime, and says so by an event "in the act"; it waits there to be killed.
    """

    def __init__(self, place: WorkerPlace, *, freeze_at_payment: int | None = None) -> None:
        command = [sys.executable, __file__, "--letters", str(place.letters), "--payments", str(place.payments)]
        if freeze_at_payment is not None:
            command += ["--freeze-at-payment", str(freeze_at_payment)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **place.environment},
            start_new_session=True,  # Ctrl-C in the terminal is the demo's to handle
        )
        self._input = cast("IO[str]", self._process.stdin)
        self._output = cast("IO[str]", self._process.stdout)

    @property
    def pid(self) -> int:
        return self._process.pid

    def carry_out(self, command: JsonDict) -> Iterator[JsonDict]:
        """Send a command and yield its events until it is done. Raises `WorkerDied`."""
        try:
            self._input.write(json.dumps(command) + "\n")
            self._input.flush()
        except BrokenPipeError:
            raise WorkerDied(self.pid) from None
        for line in self._output:
            event = cast("JsonDict", json.loads(line))
            if event["event"] == "done":
                return
            yield event
        raise WorkerDied(self.pid)

    def kill(self) -> None:
        """End it with SIGKILL: no handler runs, nothing is tidied up."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let it finish the command at work and end; with force when that takes too long."""
        try:
            self._input.write(json.dumps({"do": "end"}) + "\n")
            self._input.flush()
            self._process.wait(_END_TIMEOUT_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.kill()
        except KeyboardInterrupt:
            self.kill()
            raise
        with suppress(BrokenPipeError):
            self._input.close()
        self._output.close()


def main() -> None:
    """Carry out commands until the input ends."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--letters", type=Path, required=True)
    options.add_argument("--payments", type=Path, required=True)
    options.add_argument("--freeze-at-payment", type=int)
    chosen = options.parse_args()

    # Events have standard output to themselves; what a library prints goes to the errors.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(event: str, **values: str) -> None:
        events.write(json.dumps({"event": event, **values}) + "\n")
        events.flush()

    payments = PaymentsFile(chosen.payments)

    def freeze(payment: Payment) -> None:
        if len(payments.all()) == chosen.freeze_at_payment:
            tell("in the act", run_id=payment.run_id, key=payment.key)
            time.sleep(PATIENCE_S)

    handlers = effect_handlers(chosen.letters, payments, after_payment=freeze)
    with open_runtime(workflows=[PAYABLE], effect_handlers=handlers) as runtime:
        for command in _commands():
            try:
                _carry_out(runtime, command, tell)
            except AbstractRuntimeError as error:
                tell("refused", message=str(error))
            tell("done")


def _commands() -> Iterator[JsonDict]:
    """Commands as they come. The input is read in a thread, so that its end is seen during a long effect too."""
    waiting: queue.SimpleQueue[JsonDict | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "end":
                waiting.put(None)
                return
            waiting.put(command)
        os._exit(1)  # its starter is gone; the effect at work is left to whoever takes the run over

    threading.Thread(target=read, name="commands", daemon=True).start()
    while (command := waiting.get()) is not None:
        yield command


def _carry_out(runtime: Runtime, command: JsonDict, tell: Callable[..., None]) -> None:
    run_id = str(command["run_id"])
    if command["do"] == "resume":
        runtime.resume(run_id=run_id, wait_key=str(command["wait_key"]), payload=command["payload"])
    elif command["do"] == "retry":
        runtime.retry(run_id)
    _settle(runtime, run_id, tell)


def _settle(runtime: Runtime, run_id: str, tell: Callable[..., None]) -> None:
    """Drive a run until it waits for somebody or has ended, after another worker's death as well."""
    give_up_at = time.monotonic() + PATIENCE_S
    told = ""
    while time.monotonic() < give_up_at:
        obstacle = ""
        try:
            obstacle = runtime.tick(run_id=run_id).stopped or ""
        except Leased:
            obstacle = "leased"
        except Conflict:
            obstacle = "conflict"
        if not obstacle:
            return
        if obstacle != told:
            tell(obstacle, run_id=run_id)
            told = obstacle
        time.sleep(POLL_S)
    tell("refused", message=f"run {run_id} could not go on for {PATIENCE_S:.0f} seconds ({told})")


if __name__ == "__main__":
    main()

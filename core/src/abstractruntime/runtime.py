"""The façade: start runs, drive them in the caller's thread, answer, cancel, look.

A `Runtime` owns no truth: everything it knows stands in its store. Several runtimes, in one process or in many, may
work on one store at the same time; leases and fences keep them apart.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from types import TracebackType
from typing import Literal, Self, TypeAlias, cast

from msgspec import structs

from .codec import plain
from .config import RuntimeSettings
from .driver import Driver, TryAgain
from .effects import EffectOutcome, EffectSpec, HandlerLike, bind_handlers
from .errors import (
    Conflict,
    InvalidId,
    Leased,
    NotWaiting,
    StoreClosed,
    UnknownWait,
    UsageError,
    WorkflowMismatch,
    WrongStatus,
)
from .handlers import Handlers
from .identity import new_run_id
from .inbox import TAKEN_IN
from .journal import Folded, Journal, Wait
from .limits import RuntimeConfig, limit_status, limit_warnings, limits_update
from .loading import Loader, Opened
from .models import JsonDict, JsonValue, LimitWarning, RunEvent, RunState, RunStatus, StepStatus
from .retry import EffectPolicy
from .steps import ledger_rows
from .store.contract import MAX_ID_CHARS, Message, Page, RunQuery, Store
from .views import copy_view
from .workflow import DefaultRunContext, RunContext, WorkflowRegistry, WorkflowSpec

log = logging.getLogger("abstractruntime")

WorkflowLike: TypeAlias = "WorkflowSpec | str | None"

FIRST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.2

MAX_RUN_ID_CHARS = 512
"""Keys of waits are made of it (``doubt:<run>:<step>``), and have to stay below the 1,024 of a store."""


class Runtime:
    """Drives runs of one store.

    ``store``: the store; it is closed with the runtime only if `open_runtime` opened it. ``run_store`` and
    ``ledger_store``: the pair of 0.2, instead of ``store``. ``effect_handlers``: by effect type; they come before those
    of plugins and the built-in ones. ``context``: given to nodes; it needs ``now_iso()``. ``effect_policy``: asked for
    idempotency keys. ``config``: the limits that new runs begin with. ``plugin_handlers``, ``observers``: asked when
    the first effect, the first commit comes up.
    """

    def __init__(
        self,
        run_store: object = None,
        ledger_store: object = None,
        effect_handlers: Mapping[str, HandlerLike] | None = None,
        context: RunContext | None = None,
        workflow_registry: WorkflowRegistry | None = None,
        artifact_store: object = None,
        effect_policy: EffectPolicy | None = None,
        config: RuntimeConfig | None = None,
        *,
        store: Store | None = None,
        settings: RuntimeSettings | None = None,
        plugin_handlers: Callable[[Mapping[str, EffectSpec]], Mapping[str, EffectSpec]] | None = None,
        observers: Callable[[], Sequence[Callable[[RunEvent], None]]] | None = None,
        owns_store: bool = False,
    ) -> None:
        self._store = store if store is not None else _pair(run_store, ledger_store)
        self._pair = (run_store, ledger_store) if store is None else (None, None)
        self._owns_store = owns_store
        self._rules = settings or RuntimeSettings()
        given = bind_handlers(effect_handlers, undeclared=self._rules.default_recovery)
        self.workflow_registry = workflow_registry
        self.artifact_store = artifact_store
        self.effect_policy = effect_policy
        self.config = config or RuntimeConfig()
        self._loader = Loader(self._store)
        self._driver = Driver(
            self._store,
            self._rules,
            Handlers(given, plugin_handlers),
            context or DefaultRunContext(self._store.now),
            lambda: self.effect_policy,
            observers=observers,
        )
        self._closed = False

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The store, in the terms of the store contract."""
        return self._store

    @property
    def run_store(self) -> object:
        """The runs as a `RunStore` of 0.2."""
        return self._pair[0] or import_module(__package__).run_store_view(self)

    @property
    def ledger_store(self) -> object:
        """The ledgers as a `LedgerStore` of 0.2."""
        return self._pair[1] or import_module(__package__).ledger_store_view(self)

    def set_workflow_registry(self, registry: WorkflowRegistry | None) -> None:
        """The same as setting ``workflow_registry``; kept from 0.2, as the two after it."""
        self.workflow_registry = registry

    def set_artifact_store(self, store: object) -> None:
        """The same as setting ``artifact_store``."""
        self.artifact_store = store

    def set_effect_policy(self, policy: EffectPolicy | None) -> None:
        """The same as setting ``effect_policy``."""
        self.effect_policy = policy

    def close(self) -> None:
        """End the renewal thread, and close the store if it was opened with the runtime. Runs are not touched."""
        if self._closed:
            return
        self._closed = True
        self._driver.close()
        if self._owns_store:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._owns_store:
            warnings.warn(f"{self!r} was left open: use `with`, or close()", ResourceWarning, stacklevel=2)

    def __repr__(self) -> str:
        return f"<Runtime {self._driver.name} on {self._store!r}>"

    # -- runs ----------------------------------------------------------------------------------------------------------

    def start(
        self,
        *,
        workflow: WorkflowSpec | str,
        vars: Mapping[str, JsonValue] | None = None,
        actor_id: str | None = None,
        session_id: str | None = None,
        parent_run_id: str | None = None,
        run_id: str | None = None,
        queue: str = "default",
        priority: int = 0,
        partition_key: str | None = None,
        tags: Iterable[str] = (),
    ) -> str:
        """Begin a run and return its id. Nothing runs yet: `tick` it, or leave it to the workers.

        The run stays with this runtime for ``start_grace_s`` seconds. Raises `InvalidValue` naming the path of a value
        in ``vars`` that JSON cannot hold, `DuplicateRun` for a ``run_id`` that exists; nothing is written then.
        """
        self._check_open()
        spec = self._registry_get(workflow) if isinstance(workflow, str) else workflow
        run_id = check_id(run_id, "run_id", MAX_RUN_ID_CHARS) if run_id is not None else new_run_id()
        now = self._store.now()
        labels = sorted({check_id(tag, "tag") for tag in tags})
        if type(priority) is not int:
            raise UsageError(f"priority must be a whole number, not {priority!r}")
        named = {"actor": actor_id, "session": session_id, "parent": parent_run_id, "partition": partition_key}
        fields = {
            "workflow": check_id(spec.workflow_id, "workflow_id"),
            "version": spec.version or None,
            "node": spec.entry_node,
            "queue": None if queue == "default" else check_id(queue, "queue"),
            "priority": priority or None,
            "tags": labels or None,
            "root": self._root_of(parent_run_id),
            **{name: None if value is None else check_id(value, name) for name, value in named.items()},
        }
        journal = self._loader.new(run_id, spec.workflow_id)
        seeded = dict(vars or {})
        if not isinstance(seeded.get("_limits"), dict):
            seeded["_limits"] = self.config.to_limits_dict()
        present = {name: value for name, value in fields.items() if value is not None}
        journal.write_delta("created", now, present, seeded)
        self._driver.begin(journal, now, self._rules.start_grace_s)
        self._loader.keep(journal)
        return run_id

    def _root_of(self, parent_run_id: str | None) -> str | None:
        """The run that the whole tree hangs from; None for a run without a parent, which is its own."""
        if parent_run_id is None:
            return None
        parent = self._store.load(check_id(parent_run_id, "parent_run_id"))
        return parent_run_id if parent is None else parent.head.projection.root_run_id or parent_run_id

    def tick(self, *, workflow: WorkflowLike = None, run_id: str, max_steps: int = 100) -> RunState:
        """Drive a run until it waits, ends, or has made ``max_steps`` steps, and return where it stands.

        ``workflow``: its code; not needed where the registry knows it. A state that could go on says why it does not in
        ``stopped``. A run that nobody has to drive (it waits, or has ended) is returned as it is. Raises `UnknownRun`,
        `WorkflowMismatch`, `Leased` when somebody else holds the run for longer than ``lease_wait_s``, and `Conflict`
        when somebody took it over while this call was at work; the run itself is unharmed by all of these.
        """
        if max_steps < 1:
            raise UsageError(f"max_steps must be 1 or more, not {max_steps}")
        left = [max_steps]
        return self._settle(run_id, lambda opened: self._advance(opened, workflow, left))

    def resume(
        self,
        *,
        workflow: WorkflowLike = None,
        run_id: str,
        wait_key: str | None,
        payload: JsonValue,
        wait_id: str | None = None,
        max_steps: int = 100,
        actor_id: str | None = None,
    ) -> RunState:
        """Answer what a run waits for, and drive it on. An answer counts once.

        ``wait_key``: of the open wait; ``wait_id`` names one of several with the same key. ``payload``: the answer, put
        at the wait's ``result_key``. Raises `NotWaiting` (the run waits for nothing), `UnknownWait` (it waits for
        something else; the message says what), `Conflict` (somebody else's answer came first), `InvalidValue` for a
        payload that is no JSON; nothing is written then.
        """
        answer = plain(payload, "payload")
        if actor_id is not None:
            check_id(actor_id, "actor_id")
        chosen: list[Wait] = []
        left: list[int] = []  # once the answer is taken in: the steps that are left of this call's

        def attempt(opened: Opened) -> RunState | None:
            if left:
                return self._advance(opened, workflow, left)
            if not chosen:
                chosen.append(_open_wait(opened.state, wait_key, wait_id))
            wait = chosen[0]
            if wait.parked:
                raise WrongStatus(
                    f"run {run_id} is parked ({wait.parked}), which is no question",
                    hint="say what became of the effect: resolve it",
                    run_id=run_id,
                    wait_id=wait.wait_id,
                )
            if all(wait.wait_id != other.wait_id for other in opened.state.waits):
                raise Conflict(
                    f"wait {wait.wait_key!r} of run {run_id} was answered by somebody else",
                    hint="look at the run: its ledger says who answered what",
                    run_id=run_id,
                    wait_id=wait.wait_id,
                )
            body = {"wait_id": wait.wait_id, "payload": answer}
            message = self._driver.message(run_id, f"resume:{wait.wait_id}", "resume", body, actor_id)
            steps = [max_steps]
            state = self._advance(opened, workflow, steps, message)
            left[:] = steps
            return state

        return self._settle(run_id, attempt)

    def cancel_run(self, run_id: str, *, reason: str | None = None, actor_id: str | None = None) -> RunState:
        """Cancel a run: nothing is decided after it. A run that has ended stays as it is.

        Where somebody holds the run the request is a message: its effect at work is told, and the run is cancelled when
        that has an outcome; the state returned is as it is now. Raises `UnknownRun` (a KeyError).
        """
        body: JsonDict = {"reason": plain(reason, "reason")}
        return self._administer(run_id, "cancel", body, actor_id, lambda state: state.status.is_terminal)

    def retry(self, run_id: str, *, actor_id: str | None = None) -> RunState:
        """Let a failed run go on from the node that failed, as a new step under a new idempotency key; then `tick` it.

        Raises `WrongStatus` for a run that has not failed.
        """

        def check(state: Folded) -> bool:
            if state.status is not RunStatus.FAILED:
                raise WrongStatus(
                    f"run {run_id} is {state.status}, so there is nothing to retry",
                    hint="only a failed run can be retried",
                    run_id=run_id,
                    status=state.status.value,
                )
            return False

        return self._administer(run_id, "retry", {}, actor_id, check)

    def resolve(
        self,
        run_id: str,
        outcome: EffectOutcome | Literal["retry"],
        *,
        wait_id: str | None = None,
        actor_id: str | None = None,
    ) -> RunState:
        """Say what became of an effect in doubt: it completed with a result, it failed, or ``"retry"``: it was not done
        and is to be done now. Then `tick` the run. Raises `WrongStatus` for a run that is not in doubt.
        """
        if isinstance(outcome, EffectOutcome) and outcome.status is StepStatus.WAITING:
            raise UsageError("an effect in doubt is resolved as completed, failed or 'retry', not as waiting")
        if not isinstance(outcome, EffectOutcome) and outcome != "retry":
            raise UsageError(f"an effect in doubt is resolved by an EffectOutcome or 'retry', not by {outcome!r}")
        body: JsonDict = {"verdict": "retry"}
        if isinstance(outcome, EffectOutcome):
            body = {"verdict": outcome.status.value, "result": plain(outcome.result, "result"), "error": outcome.error}
        state = self._loader.open(run_id).state
        parked = next((wait for wait in state.waits if wait.parked and wait_id in (None, wait.wait_id)), None)
        if parked is None:
            raise WrongStatus(
                f"run {run_id} is {state.status} and not in doubt",
                hint="runs in doubt wait with reason 'job' and a key that begins with 'doubt:' or 'poison:'",
                run_id=run_id,
                status=state.status.value,
            )
        return self._administer(run_id, "resolve", {**body, "wait_id": parked.wait_id}, actor_id, lambda state: False)

    def update_limits(self, run_id: str, updates: Mapping[str, JsonValue], *, actor_id: str | None = None) -> RunState:
        """Change limits in the run's ``vars["_limits"]``; unknown keys are ignored."""
        body = cast(JsonDict, plain(dict(updates), "updates"))
        limits_update({}, body)  # what cannot be written is refused here, not in the ledger of whoever holds the run
        return self._administer(run_id, "limits", body, actor_id, lambda state: False)

    # -- looking -------------------------------------------------------------------------------------------------------

    def get_state(self, run_id: str) -> RunState:
        """Where a run stands; a copy. Raises `UnknownRun` (a KeyError)."""
        opened = self._loader.open(run_id)
        state = copy_view(opened.state)
        self._loader.keep(opened.journal)
        return state

    def get_ledger(self, run_id: str) -> list[JsonDict]:
        """The steps of a run as `StepRecord` dicts, oldest first: ``started`` for each decision, and a row per outcome.

        Each has ``kind`` and ``seq`` of its record and the hashed text in ``header``. Empty for an unknown run.
        """
        return ledger_rows(self._store.ledger(run_id))

    def find(self, query: RunQuery | None = None, **conditions: object) -> Page:
        """The heads of runs that match. ``conditions``: fields of `RunQuery`; ``status`` may be one word."""
        status = conditions.get("status")
        if isinstance(status, str):
            conditions["status"] = (str(status),)
        if "tags" in conditions:
            conditions["tags"] = tuple(cast("Iterable[str]", conditions["tags"]))
        return self._store.find(structs.replace(query or RunQuery(), **conditions))

    def get_limit_status(self, run_id: str) -> JsonDict:
        """How much of its limits a run has used, in numbers and percentages."""
        return limit_status(self.get_state(run_id).vars, self.config)

    def check_limits(self, run: RunState | str) -> list[LimitWarning]:
        """The limits that are near or passed."""
        state = self.get_state(run) if isinstance(run, str) else run
        return limit_warnings(state.vars, self.config)

    # -- how -----------------------------------------------------------------------------------------------------------

    def _settle(self, run_id: str, attempt: Callable[[Opened], RunState | None]) -> RunState:
        """Load the run and try, again while others are quicker, until ``lease_wait_s`` has passed."""
        self._check_open()
        check_id(run_id, "run_id")
        deadline = time.monotonic() + self._rules.lease_wait_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                state = attempt(self._loader.open(run_id))
                if state is not None:
                    return state
                continue
            except TryAgain as again:
                if time.monotonic() >= deadline:
                    raise again.error from None
            time.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    def _advance(self, opened: Opened, workflow: WorkflowLike, left: list[int], *messages: Message) -> RunState | None:
        """Drive a loaded run; None: there is more to do. `TryAgain`: somebody else holds it or was first.

        ``left``: the steps that this call may still make; brought up to date here.
        """
        state, head = opened.state, opened.head
        spec = self._code_for(state, workflow)
        now = self._store.now()
        in_doubt = state.status is RunStatus.RUNNING and head.wake_at is not None and head.wake_at > now
        inbox = [message for message in opened.stored.messages if message.kind in TAKEN_IN]
        wakes = state.wake_at(now)
        if not messages and not inbox and (in_doubt or wakes is None or wakes > now):
            return self._result(opened.journal, "in_doubt" if in_doubt else None)
        if head.held:
            raise WrongStatus(f"run {head.run_id} is {head.held}", hint="unpause it first", run_id=head.run_id)
        due = wakes is not None and wakes <= now and not inbox
        if spec is None and (state.status is RunStatus.RUNNING or messages or due):
            spec = self._registry_get(state.workflow_id, state.workflow_version)
        max_steps = left[0]
        drive = self._driver.drive(opened, spec, max_steps=max_steps, messages=messages)
        left[0] = drive.steps_left
        for message in messages:
            if message.id in drive.refused:
                why = drive.refused[message.id]
                raise Conflict(f"run {head.run_id}: {why}", hint="look at the run again", run_id=head.run_id)
        if drive.unseen and drive.stopped is None:
            return None
        if state.status is RunStatus.RUNNING and drive.stopped == "max_steps":
            log.info("run %s made %d steps and can go on: tick it again", state.run_id, max_steps)
        return self._result(opened.journal, drive.stopped)

    def _result(self, journal: Journal, stopped: Literal["max_steps", "in_doubt"] | None) -> RunState:
        state = copy_view(journal.state)
        state.stopped = stopped
        self._loader.keep(journal)
        return state

    def _administer(
        self,
        run_id: str,
        kind: str,
        body: JsonDict,
        actor_id: str | None,
        nothing_to_do: Callable[[Folded], bool],
    ) -> RunState:
        """Record an operator's word: in a commit of its own where nobody holds the run, else by a message."""
        if actor_id is not None:
            check_id(actor_id, "actor_id")
        message = self._driver.message(run_id, f"{kind}:{os.urandom(8).hex()}", kind, body, actor_id)

        def attempt(opened: Opened) -> RunState:
            if nothing_to_do(opened.state):
                return self._result(opened.journal, None)
            try:
                drive = self._driver.drive(opened, None, messages=[message])
            except TryAgain as again:
                if not isinstance(again.error, Leased):
                    raise
                self._driver.deliver(message)
                return self._result(self._loader.open(run_id).journal, None)
            if message.id in drive.refused and not nothing_to_do(opened.state):
                raise WrongStatus(f"run {run_id}: {drive.refused[message.id]}", run_id=run_id)
            return self._result(opened.journal, None)

        return self._settle(run_id, attempt)

    def _code_for(self, state: Folded, workflow: WorkflowLike) -> WorkflowSpec | None:
        """The code for a run: what was given, if it is its own; else what the registry knows."""
        if isinstance(workflow, str):
            workflow = self._registry_get(workflow, state.workflow_version)
        if workflow is None:
            registry = self.workflow_registry
            return registry.get(state.workflow_id, state.workflow_version) if registry is not None else None
        if (workflow.workflow_id, workflow.version) != (state.workflow_id, state.workflow_version):
            raise WorkflowMismatch(
                f"run {state.run_id} belongs to workflow {state.workflow_id!r} version {state.workflow_version!r}, "
                f"the code given to {workflow.workflow_id!r} version {workflow.version!r}",
                hint="give the workflow that started it",
                run_id=state.run_id,
                workflow_id=state.workflow_id,
            )
        return workflow

    def _registry_get(self, workflow_id: str, version: str | None = None) -> WorkflowSpec:
        return (self.workflow_registry or WorkflowRegistry()).get_or_raise(workflow_id, version)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("this runtime was closed", hint="open another one")


def check_id(value: object, name: str, most: int = MAX_ID_CHARS) -> str:
    """An id or key: text of 1–1,024 characters without NUL and lone surrogates. Raises `InvalidId`."""
    if not isinstance(value, str) or not 0 < len(value) <= most or "\0" in value:
        shown = repr(value) if not isinstance(value, str) or len(value) < 80 else f"text of {len(value)} characters"
        raise InvalidId(f"{name} must be text of 1–{most} characters without NUL, not {shown}", name=name)
    plain(value, name)
    return value


def _open_wait(state: Folded, wait_key: str | None, wait_id: str | None) -> Wait:
    if not state.waits:
        raise NotWaiting(
            f"run {state.run_id} is {state.status} and waits for nothing",
            hint="look at its state: it may have gone on already",
            run_id=state.run_id,
            status=state.status.value,
        )
    for wait in state.waits:
        if wait_id == wait.wait_id or (wait_id is None and wait_key in (None, wait.wait_key)):
            return wait
    raise UnknownWait(
        f"run {state.run_id} does not wait for {wait_id or wait_key!r}",
        hint="it waits for " + ", ".join(f"{wait.wait_key!r} (id {wait.wait_id})" for wait in state.waits),
        run_id=state.run_id,
        wait_key=wait_key,
    )


def _pair(run_store: object, ledger_store: object) -> Store:
    if run_store is None or ledger_store is None:
        raise UsageError(
            "a Runtime needs a store",
            hint="open_runtime('sqlite:///runs.db'), Runtime(store=…), or Runtime(run_store=…, ledger_store=…)",
        )
    return cast(Store, import_module(__package__).pair_store(run_store, ledger_store))

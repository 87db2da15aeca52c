"""The engine: one run, advanced step by step. Sans-IO.

A `Drive` advances a run: *decide* (visit a node), *commit*, *perform* (let a handler act), and again. It does no I/O
itself: it is a generator that yields requests (`Commit`, and those of `requests`) and is sent their
answers, so a thread, an event loop or a worker with many runs can drive it. Time and randomness come in as functions.

What holds at each point:

- What a handler is asked to do stands in the ledger, payload included, before it is asked. A drive that finds such a
  decision open performs that one, and does not ask the node again.
- A decision is committed together with the outcome of the step before; the outcome of an effect that must not be
  repeated, or is costly, is committed at once.
- Only the run's holder commits. Everybody else leaves a message; the drive takes messages in between its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from .codec import draft_of, plain
from .effects import EffectContext, EffectSpec, Reconciled
from .errors import Conflict, InvalidHandler, InvalidPlan, Leased, UsageError
from .inbox import TAKEN_IN, record_message
from .journal import Decision, Folded, Header, Journal
from .models import (
    Effect,
    Instant,
    JsonDict,
    Recovery,
    RunState,
    RunStatus,
    StepPlan,
    WaitReason,
    instant_text,
    plain_text,
)
from .outcomes import attempt_field, newest_outcome, record_outcome, said_by_reconcile
from .plans import MAX_TIMEOUT_S, check_plan, next_after
from .requests import Claim, Deliver, LookInside, Perform, Performed
from .retry import step_key
from .store.contract import Commit, CommitResult, Fence, Message, RunHead, StoredRun
from .views import describe_error, view
from .waits import BUILT_IN, timer_result
from .workflow import RunContext, WorkflowSpec

MAX_PENDING_RECORDS = 100
MAX_PENDING_BYTES = 65_536
"""Pure transitions ride in the next commit, up to here."""
MAX_MESSAGES = 500
"""Messages taken in by one commit: with what is pending they stay below the records that a commit may have."""


Request: TypeAlias = "Commit | Perform | Claim | LookInside | Deliver"
Moves: TypeAlias = Generator[Request, Any, None]


class Terms(Struct, frozen=True, kw_only=True):
    """What a drive may rely on: the same for all drives of a runtime.

    ``handlers``: by effect type, bound. ``now``: the store's clock. ``key_of``: a policy's idempotency key, asked once
    per decision; None derives it from run and step.
    """

    handlers: Mapping[str, EffectSpec]
    now: Callable[[], Instant]
    context: RunContext
    lease_s: float = 30.0
    max_claims: int = 5
    key_of: Callable[[RunState, str, Effect], str] | None = None


class Drive:
    """One holder's way with one run.

    ``journal``: the run as loaded. ``head``: the store's part of it. ``workflow``: None only records messages.
    After `advance` is exhausted: ``stopped`` says why it stopped early, ``unseen`` whether messages came in meanwhile.
    """

    def __init__(
        self,
        terms: Terms,
        journal: Journal,
        head: RunHead,
        *,
        owner: str,
        workflow: WorkflowSpec | None,
        messages: Sequence[Message] = (),
        inbox_mark: bytes | None = None,
        own_messages: Sequence[Message] = (),
        max_steps: int = 100,
        take_from: str | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.terms = terms
        self.journal = journal
        self.state: Folded = journal.state
        self.owner = owner
        self.workflow = workflow
        self.stopped: Literal["max_steps", "in_doubt"] | None = None
        self.unseen = False
        self.performed = False
        self.committed = 0
        self.refused: dict[str, str] = {}
        self.lease_until: Instant | None = head.lease_until
        self._fence = head.fence
        self._wake_at = head.wake_at
        self._holds = head.owner == owner
        self._claims = head.claims
        self._take_from = take_from
        self._messages = list(messages)
        self._mark = inbox_mark
        self._told_mark: bytes | None = None
        self._own = list(own_messages)
        self._taken_own: list[Message] = []
        self._consumed: list[str] = []
        self._projected = self._shape()
        self._steps_left = max_steps
        self._fresh: Decision | None = None
        self._cancelled = cancelled

    def advance(self) -> Moves:
        """Go on until the run waits, ends, has used its steps, or cannot go on by itself; then release it."""
        self._take_in()
        while self.stopped is None and self.workflow is not None:
            if self._cancelled():  # the lease was lost, or a message asks to cancel: know it before deciding anything
                yield from self._look_inside()
            if self.state.status is RunStatus.RUNNING:
                if self.state.decision is not None:
                    yield from self._act(self.state.decision)
                elif self._steps_left <= 0:
                    self.stopped = "max_steps"
                elif self._crowded():
                    yield from self._commit()
                else:
                    self._decide(self.workflow)
            elif self.state.status is not RunStatus.WAITING or not self._fire():
                break
        yield from self._commit(release=True)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        """Record what the messages say. What they ask for and is not possible any more is noted, and said to nobody."""
        known = set(self._consumed)  # recorded, and not committed yet: the store still has them in the inbox
        waiting = [message for message in self._messages if message.kind in TAKEN_IN and message.id not in known]
        for message in waiting[:MAX_MESSAGES]:  # those of other kinds stay in the inbox
            self._record_message(message)
            self._consumed.append(message.id)
        if len(waiting) > MAX_MESSAGES:
            self._mark, self.unseen = self._told_mark, True  # the rest stays unseen: the next commit says so
        self._messages = []
        for message in self._own:
            self._record_message(message)
            self._taken_own.append(message)
        self._own = []

    def _record_message(self, message: Message) -> None:
        why = record_message(self.journal, self.terms.now(), message)
        if why is not None:
            self.refused[message.id] = why

    # -- deciding ------------------------------------------------------------------------------------------------------

    def _crowded(self) -> bool:
        return len(self.journal.pending) >= MAX_PENDING_RECORDS or self.journal.pending_bytes >= MAX_PENDING_BYTES

    def _decide(self, workflow: WorkflowSpec) -> None:
        """Visit the run's node and record what it decided, or that it failed."""
        node = self.state.node
        handler = workflow.get_node(node)
        self._steps_left -= 1
        draft = draft_of(self.state.vars)
        run = view(self.state, draft)
        run.step += 1
        try:
            plan = check_plan(workflow, node, handler(run, self.terms.context), run)
            asked = None if plan.effect is None else self._asked(workflow, node, plan, plan.effect, run)
        except Exception as error:  # noqa: BLE001  # whatever user code raises is the run's failure, not the driver's
            self._record_failed_visit(node, error)
        else:
            try:
                self._record_plan(node, plan, asked, run)
            except UsageError as error:  # what it decided cannot be stored
                self._record_failed_visit(node, error)

    def _record_failed_visit(self, node: str, error: Exception) -> None:
        self._write("failed", {"node": node, "step": self.state.step + 1}, [("error", describe_error(error))])

    def _record_plan(self, node: str, plan: StepPlan, asked: Header | None, run: RunState) -> None:
        fields: Header = {"node": node, "step": self.state.step + 1}
        if plan.complete_output is not None:
            self._write_delta("finished", fields, run, [("output", plan.complete_output)])
        elif plan.effect is None or asked is None:
            self._write_delta("stepped", {**fields, "next": plain_text(plan.next_node or "")}, run)
        else:
            self._write_delta("decided", {**fields, **asked}, run, payload=plan.effect.payload)
            self._fresh = self.state.decision

    def _asked(self, workflow: WorkflowSpec, node: str, plan: StepPlan, effect: Effect, run: RunState) -> Header | None:
        """What a decision for this effect says beside its payload; None where the plan ends the run.

        Handler and policy have their say here, in code of the user's.
        """
        if plan.complete_output is not None:
            return None
        spec = self.terms.handlers.get(effect.type)
        if spec is None:
            raise InvalidPlan(
                f"node {node!r} asks for effect {str(effect.type)!r}, which has no handler here",
                hint=f"handlers: {', '.join(sorted(self.terms.handlers))}; pass effect_handlers= or install a plugin",
                node_id=node,
                effect_type=str(effect.type),
            )
        fields: Header = {
            "effect": plain_text(effect.type),
            "next": next_after(workflow, node, effect, spec, plan),
            "recovery": Recovery(spec.recovery_of(effect)).value,
            "timeout_us": round(min(spec.timeout_of(effect), MAX_TIMEOUT_S) * 1_000_000),
        }
        if spec.costly:
            fields["costly"] = True
        if effect.result_key is not None:
            fields["result_key"] = plain_text(effect.result_key)
        if self.terms.key_of is not None:
            fields["key"] = str(plain(self.terms.key_of(run, node, effect), "idempotency key"))
        return fields

    # -- acting --------------------------------------------------------------------------------------------------------

    def _act(self, decision: Decision) -> Moves:
        """Bring the open decision to its outcome."""
        spec = self.terms.handlers.get(decision.effect)
        if self._fresh is not decision:
            if not (yield from self._take_over(decision, spec)):
                return
            self._steps_left -= 1
        elif spec is not BUILT_IN.get(decision.effect):
            yield from self._commit()
        if spec is not None and self.state.decision is decision:  # a message that came with the commit may cancel it
            yield from self._perform(decision, spec)

    def _perform(self, decision: Decision, spec: EffectSpec) -> Moves:
        request = self._request(decision, spec)
        if not decision.recovery.repeatable and request.ctx.now >= request.ctx.deadline:
            # Between the commit of the decision and here the machine slept: somebody may have been told that nothing
            # was done. The commit of a new attempt finds out, before anything is.
            if not (yield from self._reopen(decision)):
                return
            request = self._request(decision, spec)
        if spec is BUILT_IN.get(decision.effect):
            performed = _call(request)
        else:
            self.performed = True
            performed = yield request
        self._fresh = None
        if performed.raised is not None and not isinstance(performed.raised, Exception):
            self._write("interrupted", {"step": decision.step, **attempt_field(request.ctx)})
            yield from self._commit(release=True)
            raise performed.raised
        record_outcome(self.journal, self.terms.now(), decision, request, performed)
        if spec.costly or not decision.recovery.repeatable:
            yield from self._commit_outcome(decision, request.ctx)

    def _request(
        self, decision: Decision, spec: EffectSpec, hook: Literal["handler", "reconcile"] = "handler"
    ) -> Perform:
        state = self.state
        effect = Effect(type=decision.effect, payload=self.journal.payload(), result_key=decision.result_key)
        ctx = EffectContext(
            run_id=state.run_id,
            step=decision.step,
            visit=state.visits.get(decision.node, 1),
            key=decision.key or step_key(state.run_id, decision.step),
            attempt=self._attempt(decision),
            epoch=self._fence.epoch,
            deadline=Instant(decision.at + decision.timeout_us),
            default_next_node=decision.next_node,
            now=self.terms.now(),
            cancelled=self._cancelled,
        )
        return Perform(spec=spec, run=view(state, draft_of(state.vars)), effect=effect, ctx=ctx, hook=hook)

    def _attempt(self, decision: Decision) -> int:
        """Attempts that ended stand in the ledger; one whose owner died left only the claim that followed it."""
        return 1 + self.state.attempts + max(0, self._claims - decision.idle)

    def _commit_outcome(self, decision: Decision, ctx: EffectContext) -> Moves:
        """Commit the outcome of what must not be done twice. An owner who was fenced off leaves it as a message."""
        outcome = newest_outcome(self.journal.pending)
        try:
            yield from self._commit(release=self._ends_here())
        except (Conflict, Leased):
            if outcome:
                payload: JsonDict = {"step": decision.step, **outcome}
                yield Deliver(self.state.run_id, f"outcome:{decision.step}:{ctx.epoch}", "outcome", payload)
            raise

    def _ends_here(self) -> bool:
        """Whether this drive has nothing more to do, so that the next commit can release the run."""
        return self.state.status is not RunStatus.RUNNING or self._steps_left <= 0

    # -- taking over ---------------------------------------------------------------------------------------------------

    def _take_over(self, decision: Decision, spec: EffectSpec | None) -> Generator[Request, Any, bool]:
        """Whether to perform a decision that somebody else left open."""
        yield from self._claim()
        if self.state.decision is not decision:  # a message that came in meanwhile closed it
            return False
        if spec is None:
            yield from self._commit(release=True)
            raise InvalidHandler(
                f"run {self.state.run_id} is at effect {decision.effect!r}, which has no handler here",
                hint=f"handlers: {', '.join(sorted(self.terms.handlers))}; pass effect_handlers= or install the plugin",
                run_id=self.state.run_id,
                effect_type=decision.effect,
            )
        if self._claims > self.terms.max_claims:
            self._park(decision, "poison", {"claims": self._claims, "says": "each owner of this step died"})
            return False
        if decision.recovery.repeatable:
            return True
        known_idle = decision.idle and self._claims <= 1  # a later claim without a record may have begun to act
        if known_idle and decision.cleared:
            return (yield from self._reopen(decision))
        deadline = Instant(decision.at + decision.timeout_us)
        if not known_idle and self.terms.now() < deadline:
            self.stopped = "in_doubt"
            yield from self._commit(release=True, wake_at=deadline)
            return False
        return (yield from self._clear_doubt(decision, spec))

    def _reopen(self, decision: Decision) -> Generator[Request, Any, bool]:
        """Begin another attempt at what was not done: from this record on its time runs anew."""
        fields: Header = {"step": decision.step, "attempt": self._attempt(decision), "acting": True}
        self._write("reopened", fields)
        self._fresh = decision
        yield from self._commit()
        return self.state.decision is decision

    def _claim(self) -> Moves:
        if self._holds:
            return
        if self.journal.pending:  # an operator's word: the commit of its record takes the run
            yield from self._commit()
            return
        head = yield Claim(self.state.run_id, self.owner)
        if head is None or head.length != self.state.length:
            raise Conflict(f"run {self.state.run_id} was taken by somebody else", hint="reload and look again")
        self._fence, self._holds, self._claims = head.fence, True, head.claims
        self.lease_until, self._wake_at = head.lease_until, head.wake_at

    def _clear_doubt(self, decision: Decision, spec: EffectSpec) -> Generator[Request, Any, bool]:
        """Ask the other side whether it was done, or park with what is known."""
        evidence: JsonDict = {
            "effect": decision.effect,
            "node": decision.node,
            "step": decision.step,
            "key": decision.key or step_key(self.state.run_id, decision.step),
            "decided_at": instant_text(decision.at),
            "recovery": decision.recovery.value,
            "claims": self._claims,
        }
        if decision.recovery is Recovery.RECONCILE and spec.reconcile is not None:
            request = self._request(decision, spec, "reconcile")
            performed: Performed = yield request
            if performed.raised is not None and not isinstance(performed.raised, Exception):
                yield from self._commit(release=True)
                raise performed.raised
            verdict = performed.returned
            if isinstance(verdict, Reconciled) and verdict.verdict == "done":
                fields: Header = {"step": decision.step, "reconciled": True, **attempt_field(request.ctx)}
                try:
                    self._write("completed", fields, [("outcome", verdict.result)])
                except UsageError as refused:  # done, with a result that cannot be stored: a person must say which
                    performed = Performed(raised=refused)
                else:
                    yield from self._commit_outcome(decision, request.ctx)
                    return False
            elif isinstance(verdict, Reconciled) and verdict.verdict == "not_done":
                return (yield from self._reopen(decision))
            evidence["reconcile"] = said_by_reconcile(verdict, performed.raised)
        self._park(decision, "doubt", evidence)
        return False

    def _park(self, decision: Decision, why: str, evidence: JsonDict) -> None:
        key = f"{why}:{self.state.run_id}:{decision.step}"
        fields: Header = {"id": f"w{self.state.length + 1}", "step": decision.step, "wait_key": key, "why": why}
        fields["attempt"] = self._attempt(decision) - 1  # the newest that ended
        try:
            self._write("parked", fields, [("evidence", evidence)])
        except UsageError as refused:  # the reconcile hook's own words cannot be stored
            self._write("parked", fields, [("evidence", {**evidence, "reconcile": describe_error(refused)})])

    # -- timers --------------------------------------------------------------------------------------------------------

    def _fire(self) -> bool:
        """Let a timer whose time has come go off. Whether one did."""
        now = self.terms.now()
        for wait in self.state.waits:
            if wait.reason is WaitReason.UNTIL and wait.until is not None and wait.until <= now:
                self._write("fired", {"id": wait.wait_id}, [("answer", timer_result(instant_text(wait.until)))])
                return True
        return False

    # -- committing ----------------------------------------------------------------------------------------------------

    def _commit(self, *, release: bool = False, wake_at: Instant | None = None) -> Moves:
        """Make what is pending durable; take the run with it where it is not held yet, release it at the end."""
        journal = self.journal
        idle = not journal.pending and not self._consumed and not self._taken_own
        if idle and (self._holds != release):
            return
        now = self.terms.now()
        checkpoint = journal.checkpoint(now) if journal.pending and journal.checkpoint_due() else None
        records = journal.take_pending()
        state, shape = self.state, self._shape()
        result: CommitResult = yield Commit(
            run_id=state.run_id,
            owner=self.owner,
            expect=self._fence,
            records=records,
            head_hash=state.head_hash,
            projection=None if shape == self._projected else state.projection(),
            take=not self._holds,
            take_from=self._take_from,
            lease_s=self._lease_wish(release, now),
            wake_at=wake_at if wake_at is not None else self._wake_wish(release, now),
            inbox_mark=self._mark if self._mark != self._told_mark else None,
            messages=tuple(self._taken_own),
            consumed=tuple(self._consumed),
            checkpoint=checkpoint,
        )
        if result.error is not None:
            raise result.error
        self.committed += len(records)
        self._fence = Fence(length=state.length, head_hash=state.head_hash, epoch=result.epoch)
        self._holds, self._take_from = not release, None
        self.lease_until, self._wake_at = result.lease_until, result.wake_at
        self._projected = shape
        self._claims = 0 if records else self._claims
        self._taken_own, self._consumed, self._told_mark = [], [], self._mark
        self.unseen = result.unseen
        if result.unseen and not release:
            yield from self._look_inside()

    @property
    def took_grace(self) -> bool:
        """Whether the starter's lease is gone: the run was taken from it, or was not under it."""
        return self._take_from is None

    @property
    def steps_left(self) -> int:
        """Of ``max_steps``."""
        return max(0, self._steps_left)

    def surrender(self) -> Commit | None:
        """What gives the run back if the drive is broken off: what is pending is dropped, what is committed stays."""
        if not self._holds and self._take_from is None:
            return None
        return Commit(
            run_id=self.state.run_id,
            owner=self.owner,
            expect=self._fence,
            take=not self._holds,  # a run just started is still under its starter's lease
            take_from=self._take_from,
            lease_s=0,
            wake_at=self.terms.now(),
        )

    def _look_inside(self) -> Moves:
        stored: StoredRun | None = yield LookInside(self.state.run_id, self.state.length)
        if stored is None:
            raise Conflict(f"run {self.state.run_id} was deleted", hint="another process deleted it")
        self._messages, self._mark = list(stored.messages), stored.inbox_mark
        self.unseen = stored.more_messages
        self._take_in()

    def _lease_wish(self, release: bool, now: Instant) -> float | None:
        if release:
            return 0
        lease_s = self.terms.lease_s
        running_out = self.lease_until is None or self.lease_until - now < lease_s * 500_000
        return lease_s if running_out or not self._holds else None

    def _wake_wish(self, release: bool, now: Instant) -> Instant | UnsetType | None:
        if release:
            return self.state.wake_at(now)
        # While it is held the run must be due at once if its holder dies.
        return now if self._wake_at is None or self._wake_at > now else UNSET

    def _shape(self) -> tuple[object, ...]:
        state = self.state
        waits = state.waits and tuple(wait.wait_id for wait in state.waits)
        return (state.status, state.since, state.workflow_version, waits)

    def _write(self, kind: str, fields: Header, operands: Sequence[tuple[str, object]] = ()) -> None:
        self.journal.write_delta(kind, self.terms.now(), fields, None, operands=operands)

    def _write_delta(
        self,
        kind: str,
        fields: Header,
        run: RunState,
        operands: Sequence[tuple[str, object]] = (),
        payload: JsonDict | None = None,
    ) -> None:
        self.journal.write_delta(kind, self.terms.now(), fields, run.vars, operands=operands, payload=payload)


def _call(request: Perform) -> Performed:
    """Call a handler that does no I/O."""
    try:
        return Performed(returned=request.spec.handler(request.run, request.effect, request.ctx))
    except Exception as error:  # noqa: BLE001  # as in every handler: its failure is the effect's
        return Performed(raised=error)

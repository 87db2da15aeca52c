"""Driving: a drive's requests answered in the caller's thread, against one store."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never, cast

from msgspec.json import encode

from .codec import open_record
from .config import RuntimeSettings
from .effects import EffectSpec
from .engine import Drive, Request, Terms
from .errors import AbstractRuntimeError, Conflict, Leased, OutcomeUnknown
from .handlers import perform
from .journal import Journal
from .leases import Lease, Renewer
from .loading import Opened
from .models import Effect, Instant, JsonDict, RunEvent, RunState, instant_text
from .requests import Claim, Deliver, LookInside, Perform
from .retry import EffectPolicy
from .store.contract import Commit, CommitResult, Fence, Message, RunHead, Runnable, Store, StoredRun
from .workflow import RunContext, WorkflowSpec

log = logging.getLogger("abstractruntime")


class TryAgain(Exception):
    """Somebody else holds the run (``error`` is `Leased`) or was first (`Conflict`), and nothing was done here."""

    def __init__(self, error: Conflict | Leased) -> None:
        super().__init__(str(error))
        self.error = error


class Driver:
    """Answers drives. ``name`` is unique to it: the first part of its owners' names, and the sender of its messages."""

    def __init__(
        self,
        store: Store,
        rules: RuntimeSettings,
        handlers: Mapping[str, EffectSpec],
        context: RunContext,
        policy: Callable[[], EffectPolicy | None],
        *,
        observers: Callable[[], Sequence[Callable[[RunEvent], None]]] | None = None,
    ) -> None:
        self._pid = 0
        self._name = ""
        self._store = store
        self._policy = policy
        self._find_observers = observers
        self._observers: Sequence[Callable[[RunEvent], None]] = ()
        self._found_observers = threading.Lock()
        self._terms = Terms(
            handlers=handlers, now=store.now, context=context, lease_s=rules.lease_s, max_claims=rules.max_claims
        )
        self._renewer = Renewer(store, rules.lease_s)
        self._lock = threading.Lock()
        self._drives = 0
        self._sent: Counter[str] = Counter()
        self._graces: dict[str, str] = {}
        self._leases: dict[str, Lease] = {}

    @property
    def name(self) -> str:
        """Another one in a child after a fork: two processes must not be one owner."""
        if self._pid != os.getpid():
            self._name = f"{os.uname().nodename}.{os.getpid()}.{os.urandom(4).hex()}"
            self._pid, self._sent, self._graces, self._leases = os.getpid(), Counter(), {}, {}
            self._lock = threading.Lock()
        return self._name

    def close(self) -> None:
        """End the renewal of leases."""
        self._renewer.close()

    def begin(self, journal: Journal, now: Instant, grace_s: float) -> None:
        """Commit the first record of a run, and keep the run for this driver's own drives for ``grace_s`` seconds."""
        state = journal.state
        owner = f"{self.name}/start"
        result = self._commit(
            Commit(
                run_id=state.run_id,
                owner=owner,
                expect=Fence(length=0),
                records=journal.take_pending(),
                head_hash=state.head_hash,
                projection=state.projection(),
                lease_s=grace_s,
                wake_at=now,
            )
        )
        if result.error is not None:
            raise result.error
        if grace_s > 0:
            self._graces[state.run_id] = owner

    def drive(
        self,
        opened: Opened,
        workflow: WorkflowSpec | None,
        *,
        max_steps: int = 0,
        messages: Sequence[Message] = (),
    ) -> Drive:
        """Drive a loaded run as far as it goes. ``workflow`` None: only record the messages.

        Raises `TryAgain` where somebody else holds the run, or was first before anything was done; `Conflict` or
        `Leased` where the run was taken over in the middle.
        """
        head = opened.head
        owner = self._next_owner()
        grace = self._graces.get(head.run_id)
        self._check_free(head, grace)
        lease = self._leases[head.run_id] = Lease(owner, head.run_id)
        drive = Drive(
            self._terms_now(),
            opened.journal,
            head,
            owner=lease.owner,
            workflow=workflow,
            messages=opened.stored.messages,
            inbox_mark=opened.stored.inbox_mark,
            own_messages=messages,
            max_steps=max_steps,
            take_from=grace,
            cancelled=lambda: lease.cancelled,
        )
        try:
            self._answer_all(drive, lease)
        except (Conflict, Leased) as error:
            if drive.performed or drive.committed:
                raise
            raise TryAgain(error) from error
        finally:
            self._renewer.drop(lease)
            if drive.took_grace:
                self._graces.pop(head.run_id, None)
            if self._leases.get(head.run_id) is lease:  # a thread that came second may have put its own there
                self._leases.pop(head.run_id, None)
            for path in drive.journal.missed:
                log.warning("a change of %s was missed by the delta and recorded after all; please report this", path)
            drive.journal.missed.clear()
        return drive

    def message(self, run_id: str, message_id: str, kind: str, body: JsonDict, actor_id: str | None) -> Message:
        """A message from this driver."""
        sender = self.name
        with self._lock:
            self._sent[run_id] += 1
            seq = self._sent[run_id]
        return Message(
            run_id=run_id,
            id=message_id,
            nonce=os.urandom(16).hex(),
            sender=sender,
            seq=seq,
            kind=kind,
            payload=encode(body),
            actor_id=actor_id,
            sent_at=self._store.now(),
        )

    def deliver(self, message: Message) -> None:
        """Leave a message for whoever holds the run. A drive of this driver is told of a cancel at once."""
        self._store.deliver([message])
        lease = self._leases.get(message.run_id)
        if lease is not None and message.kind == "cancel":
            lease.cancelled = True

    def _check_free(self, head: RunHead, grace: str | None) -> None:
        held = head.owner is not None and head.lease_until is not None and head.lease_until > self._store.now()
        if held and head.owner != grace:
            raise TryAgain(
                Leased(
                    f"run {head.run_id} is held by {head.owner} until {instant_text(cast(Instant, head.lease_until))}",
                    hint="wait for it; if that process is dead, its lease runs out by itself",
                    run_id=head.run_id,
                    owner=head.owner,
                    until=head.lease_until,
                )
            )

    def _terms_now(self) -> Terms:
        policy = self._policy()
        if policy is None:
            return self._terms

        def key_of(run: RunState, node_id: str, effect: Effect) -> str:
            return policy.idempotency_key(run=run, node_id=node_id, effect=effect)

        terms = self._terms
        return Terms(
            handlers=terms.handlers,
            now=terms.now,
            context=terms.context,
            lease_s=terms.lease_s,
            max_claims=terms.max_claims,
            key_of=key_of,
        )

    def _answer_all(self, drive: Drive, lease: Lease) -> None:
        moves = drive.advance()
        answer: object = None
        try:
            while True:
                answer = self._answer(moves.send(answer), lease)
        except StopIteration:
            return
        except BaseException:
            # Whatever stops us here (Ctrl-C, a missing workflow, a full disk): others need not wait for the lease.
            surrender = drive.surrender()
            if surrender is not None:
                with contextlib.suppress(AbstractRuntimeError):
                    self._store.commit([surrender])
            raise

    def _answer(self, request: Request, lease: Lease) -> object:
        if isinstance(request, Commit):
            return self._commit(request)
        if isinstance(request, Perform):
            self._renewer.keep(lease)
            return perform(request)
        if isinstance(request, Claim):
            return self._claim(request)
        if isinstance(request, LookInside):
            return self._store.load(request.run_id, after=request.after)
        if isinstance(request, Deliver):
            message = self.message(request.run_id, request.message_id, request.kind, request.payload, None)
            self.deliver(message)
            return None
        assert_never(request)

    def _claim(self, request: Claim) -> RunHead | None:
        heads = self._store.claim(
            owner=request.owner, lease_s=self._terms.lease_s, can_run=Runnable(), run_id=request.run_id
        )
        return heads[0] if heads else None

    def _commit(self, commit: Commit) -> CommitResult:
        result = self._store.commit([commit])[0]
        if isinstance(result.error, OutcomeUnknown) and commit.records:
            result = self._find_out(commit, result)
        if result.error is None and commit.records:
            self._tell(commit)
        return result

    def _tell(self, commit: Commit) -> None:
        """Tell the observers; one that raises has its error logged, and the run goes on."""
        if self._find_observers is not None:
            self._look_for_observers()
        if not self._observers:
            return
        kinds = tuple(str(open_record(record).header["kind"]) for record in commit.records)
        event = RunEvent(commit.run_id, commit.expect.length + len(kinds), kinds)
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                log.exception("observer %r failed; the run is unharmed", observer)

    def _look_for_observers(self) -> None:
        with self._found_observers:
            find = self._find_observers
            if find is None:
                return
            try:
                self._observers = find()
            except Exception:  # the commit stands, whatever becomes of those who are told of it
                log.exception("the observers could not be opened; the runs are unharmed, and nobody is told")
            self._find_observers = None

    def _find_out(self, commit: Commit, result: CommitResult) -> CommitResult:
        # It landed if, and only if, the record at its place has its hash.
        place = list(self._store.ledger(commit.run_id, after=commit.expect.length, limit=len(commit.records)))
        stored: StoredRun | None = self._store.load(commit.run_id, after=commit.expect.length)
        if stored is None or len(place) < len(commit.records) or open_record(place[-1]).record_hash != commit.head_hash:
            return result
        head = stored.head
        return CommitResult(
            run_id=commit.run_id, epoch=head.epoch, lease_until=head.lease_until, wake_at=head.wake_at, unseen=True
        )

    def _next_owner(self) -> str:
        name = self.name
        with self._lock:
            self._drives += 1
            return f"{name}/{self._drives}"

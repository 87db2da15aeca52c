"""Outcomes: what a handler returned, or raised, as records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from .codec import open_record
from .effects import EffectContext, EffectOutcome, Reconciled
from .errors import InvalidHandler, UsageError
from .journal import Decision, Header, Journal
from .models import Instant, JsonDict, JsonValue, StepStatus, WaitReason, WaitState, parse_instant
from .requests import Perform, Performed
from .views import clean_text, describe_error
from .waits import BUILT_IN, check_key, default_key


def record_outcome(journal: Journal, now: Instant, decision: Decision, request: Perform, performed: Performed) -> None:
    """Write what became of the open decision: a result, a wait or a failure, with what the handler changed in ``vars``.

    What cannot be stored, and what is no outcome, is a failure that says so; its changes are dropped.
    """
    fields: Header = {"step": decision.step, **attempt_field(request.ctx)}
    changed: dict[str, JsonValue] | None = None
    if performed.raised is not None:
        error = describe_error(performed.raised)
    elif isinstance(performed.returned, EffectOutcome):
        try:
            if _record_returned(journal, now, fields, request, performed.returned):
                return
            changed = request.run.vars  # it returned: what it counted (tokens spent on a useless answer) stands
            error = {"code": "effect_failed", "message": said_by_failure(performed.returned)}
        except UsageError as refused:
            error = describe_error(refused)
    else:
        error = describe_error(
            InvalidHandler(
                f"the handler for effect {decision.effect!r} returned {type(performed.returned).__name__}, "
                "not an EffectOutcome",
                hint="return EffectOutcome.completed(result), .waiting(wait) or .failed(error)",
            )
        )
    _record_failure(journal, now, fields, changed, error)


def _record_failure(
    journal: Journal, now: Instant, fields: Header, changed: dict[str, JsonValue] | None, error: JsonDict
) -> None:
    try:
        journal.write_delta("failed", now, dict(fields), changed, operands=[("error", error)])
    except (
        UsageError
    ) as refused:  # what it changed cannot be stored: the failure it reported is kept, and why this is not
        error = {**error, "dropped": describe_error(refused)}
        journal.write_delta("failed", now, fields, None, operands=[("error", error)])


def _record_returned(journal: Journal, now: Instant, fields: Header, request: Perform, outcome: EffectOutcome) -> bool:
    """Whether the outcome was a result or a wait, and is written."""
    changed: object = request.run.vars
    if not isinstance(changed, dict):
        raise InvalidHandler(
            f"the handler for effect {request.effect.type!r} left run.vars as {type(changed).__name__}",
            hint="run.vars must stay a dict",
        )
    if outcome.status is StepStatus.COMPLETED:
        journal.write_delta("completed", now, fields, changed, operands=[("outcome", outcome.result)])
        return True
    if outcome.status is StepStatus.WAITING and outcome.wait is not None:
        operands: list[tuple[str, object]] = []
        if request.spec is not BUILT_IN.get(request.effect.type):  # what a built-in wait says stands in the payload
            _reason_of(outcome.wait)
            operands.append(("wait", _said_by_wait(outcome.wait)))
        wait = _wait_fields(journal, request, outcome.wait)
        journal.write_delta("waiting", now, {**fields, **wait}, changed, operands=operands)
        return True
    return False


def _wait_fields(journal: Journal, request: Perform, wait: WaitState) -> Header:
    reason = _reason_of(wait)
    key = wait.wait_key or default_key(reason, request.run.run_id, request.run.current_node, request.ctx)
    for name, value in (("resume_to_node", wait.resume_to_node), ("result_key", wait.result_key)):
        if value is not None and not _is_text(value):
            raise InvalidHandler(f"a wait has {name} {value!r}, which is no text", hint=f"{name}='…', or None")
    fields: Header = {"id": f"w{journal.state.length + 1}", "reason": reason, "wait_key": check_key(key)}
    if wait.until is not None:
        fields["until"] = parse_instant(wait.until)
    if wait.resume_to_node not in (None, request.ctx.default_next_node):
        fields["next"] = wait.resume_to_node
    if wait.result_key not in (None, request.effect.result_key):
        fields["result_key"] = wait.result_key
    return fields


def _reason_of(wait: object) -> str:
    reason: object = wait.reason if isinstance(wait, WaitState) else None
    if not isinstance(wait, WaitState) or reason not in tuple(WaitReason):
        said = f"reason {reason!r}" if isinstance(wait, WaitState) else f"a {type(wait).__name__}"
        raise InvalidHandler(
            f"an effect handler waits with {said}",
            hint="EffectOutcome.waiting(WaitState(reason=…, wait_key=…)); reasons: " + ", ".join(WaitReason),
        )
    return WaitReason(wait.reason).value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def said_by_failure(outcome: EffectOutcome) -> str:
    """Why it failed, as text, also where the handler gave an exception for it."""
    error: object = outcome.error
    if isinstance(error, BaseException):
        return str(describe_error(error)["message"])
    return clean_text(str(error)) if error else "the handler did not say why"


def _said_by_wait(wait: WaitState) -> JsonDict:
    return {
        "prompt": wait.prompt,
        "choices": cast(JsonValue, wait.choices),
        "allow_free_text": wait.allow_free_text,
        "details": wait.details,
    }


def attempt_field(ctx: EffectContext) -> Header:
    """The attempt, where it is not the first."""
    return {"attempt": ctx.attempt} if ctx.attempt > 1 else {}


def newest_outcome(pending: Sequence[bytes]) -> JsonDict:
    """The result or error that the newest outcome among these records holds, as ``{"outcome": …}`` or ``{"error": …}``;
    {} where it is a wait."""
    for data in reversed(pending):
        record = open_record(data)
        for field in ("outcome", "error"):
            if field in record.header:
                return {field: record.values[cast(int, record.header[field])]}
    return {}


def said_by_reconcile(verdict: object, raised: BaseException | None) -> JsonValue:
    """What the reconcile hook said, for a person to read."""
    if raised is not None:
        return describe_error(raised)
    if isinstance(verdict, Reconciled):
        return verdict.evidence
    return f"the reconcile hook returned {type(verdict).__name__}, not a Reconciled"

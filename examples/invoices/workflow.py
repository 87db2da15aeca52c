"""The workflow: read a letter, let the model extract, check in code, ask a person where in doubt, pay once, report.

    read ─ extract ─ check ─┬─ (no doubt) ──────────────── pay ─ report
                            ├─ (doubt) ── ask ─ weigh ─┬── pay ─ report
                            │              └─ (unclear) ┘ └─────── report   (rejected by a person)
                            └─ (no invoice) ────────────────────── report   (rejected by code)

Nodes decide and touch nothing; `effect_handlers` gives what acts for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

from checks import Decision, Doubt, check_reading, validate_invoice
from extraction import extraction_payload
from payments import Payment, PaymentsFile

from abstractruntime import Effect, EffectOutcome, EffectSpec, EffectType, RunContext, RunState, StepPlan, WorkflowSpec
from abstractruntime.effects import EffectContext, Reconciled
from abstractruntime.integrations import MappingToolExecutor, make_tool_calls_handler, tool
from abstractruntime.models import JsonDict, JsonValue, Recovery
from abstractruntime.vars import clear_temp, get_temp

WORKFLOW_ID = "invoices.payable"
RECORD_PAYMENT = "record_payment"
CHOICES: list[JsonValue] = ["approve", "correct", "reject"]

# A payment is an append to a file: one that took longer has died, and a take-over may ask the file.
PAYMENT_TIMEOUT_S = 2.0


class LetterUnreadable(Exception):
    """The letter of a run cannot be read; the message is the tool's."""


def read(run: RunState, ctx: RunContext) -> StepPlan:
    """Ask the tool for the letter that the run was started with."""
    call: JsonDict = {"name": "read_letter", "arguments": {"file": _context(run)["file"]}, "call_id": "letter"}
    effect = Effect(type=EffectType.TOOL_CALLS, payload={"tool_calls": [call]}, result_key="_temp.reading")
    return StepPlan(node_id="read", effect=effect, next_node="extract")


def extract(run: RunState, ctx: RunContext) -> StepPlan:
    """Ask the model which values of the letter are the invoice's."""
    reading = _dict(get_temp(run.vars)["reading"])
    result = _dict(cast("list[JsonValue]", reading["results"])[0])
    if not result["success"]:
        raise LetterUnreadable(str(result["error"]))
    letter = str(result["output"])
    _context(run)["letter"] = letter
    effect = Effect(type=EffectType.LLM_CALL, payload=extraction_payload(letter), result_key="context.answer")
    return StepPlan(node_id="extract", effect=effect, next_node="check")


def check(run: RunState, ctx: RunContext) -> StepPlan:
    """Hold the model's answer against the letter, and decide whether code, a person or nobody approves it."""
    context = _context(run)
    findings = check_reading(str(context["letter"]), _dict(_dict(context["answer"])["data"]))
    context["invoice"] = cast("JsonValue", findings.invoice)
    context["doubts"] = _as_json(findings.doubts)
    clear_temp(run.vars)  # not earlier: a retry after a failed llm_call visits `extract` again
    if findings.decision is Decision.ASK:
        return StepPlan(node_id="check", next_node="ask")
    context["decided_by"] = "code"
    context["accepted"] = findings.decision is Decision.ACCEPT
    return StepPlan(node_id="check", next_node="pay" if findings.decision is Decision.ACCEPT else "report")


def ask(run: RunState, ctx: RunContext) -> StepPlan:
    """Park until a person approves, corrects or rejects; the answer is described at `weigh`."""
    context = _context(run)
    doubts = cast("list[JsonDict]", context["doubts"])
    lines = "; ".join(f"{doubt['field']}: {doubt['reason']}" for doubt in doubts)
    effect = Effect(
        type=EffectType.ASK_USER,
        payload={
            "prompt": f"{context['file']}: {lines}",
            "choices": CHOICES,
            "allow_free_text": False,
            "details": {name: context[name] for name in ("file", "letter", "invoice", "doubts")},
        },
        result_key="context.reply",
    )
    return StepPlan(node_id="ask", effect=effect, next_node="weigh")


def weigh(run: RunState, ctx: RunContext) -> StepPlan:
    """Take in a person's answer: "approve", "reject", or {"choice": …, "values": {field: value}, "by": who}.

    What cannot be paid as it was answered (no payee, a date that is none) is asked again, with the reason.
    """
    context = _context(run)
    reply = context["reply"]
    answer = reply if isinstance(reply, dict) else {"choice": reply}
    choice = answer.get("choice")
    if choice not in CHOICES:
        doubt = Doubt(field="answer", reason=f"{choice!r} is none of approve, correct, reject")
        return _ask_again(context, [doubt])
    context["decided_by"] = answer.get("by") or "a person"
    context["accepted"] = choice != "reject"
    if choice == "reject":
        return StepPlan(node_id="weigh", next_node="report")
    corrections = _dict(answer.get("values") or {}) if choice == "correct" else {}
    invoice, doubts = validate_invoice({**_dict(context["invoice"]), **corrections})
    context["invoice"] = cast("JsonValue", invoice)
    if doubts:
        return _ask_again(context, doubts)
    return StepPlan(node_id="weigh", next_node="pay")


def pay(run: RunState, ctx: RunContext) -> StepPlan:
    """Record the payment. This effect must not happen twice."""
    context = _context(run)
    payload: JsonDict = {"file": context["file"], "invoice": context["invoice"]}
    effect = Effect(type=RECORD_PAYMENT, payload=payload, result_key="context.payment")
    return StepPlan(node_id="pay", effect=effect, next_node="report")


def report(run: RunState, ctx: RunContext) -> StepPlan:
    """End the run with what became of the letter."""
    context = _context(run)
    output: JsonDict = {name: context.get(name) for name in ("file", "accepted", "decided_by", "invoice", "payment")}
    return StepPlan(node_id="report", complete_output=output)


PAYABLE = WorkflowSpec(
    workflow_id=WORKFLOW_ID,
    entry_node="read",
    nodes={
        "read": read,
        "extract": extract,
        "check": check,
        "ask": ask,
        "weigh": weigh,
        "pay": pay,
        "report": report,
    },
)


def effect_handlers(
    letters: Path, payments: PaymentsFile, *, after_payment: Callable[[Payment], None] = lambda payment: None
) -> Mapping[str, EffectSpec]:
    """Return the handlers of the workflow: the letters' tool and the payments.

    `after_payment` is called between the durable write and the handler's return, where a crash hurts most. The model
    is the business of a plugin.
    """

    @tool(recovery=Recovery.READ)
    def read_letter(file: str) -> str:
        """Return the text of a letter in the folder of letters."""
        if Path(file).name != file:
            raise ValueError(f"{file!r} is no name of a letter")
        return (letters / file).read_text(encoding="utf-8")

    def record_payment(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
        payment = payment_of(run.run_id, effect, ctx.key)
        payments.record(payment)
        after_payment(payment)
        return EffectOutcome.completed({"key": payment.key})

    def look_up_payment(run: RunState, effect: Effect, ctx: EffectContext) -> Reconciled:
        found = payments.find(ctx.key)
        return Reconciled.not_done() if found is None else Reconciled.done({"key": found.key})

    return {
        EffectType.TOOL_CALLS: make_tool_calls_handler(MappingToolExecutor.from_tools([read_letter])),
        RECORD_PAYMENT: EffectSpec(
            handler=record_payment,
            recovery=Recovery.RECONCILE,
            timeout_s=PAYMENT_TIMEOUT_S,
            reconcile=look_up_payment,
        ),
    }


def payment_of(run_id: str, effect: Effect, key: str) -> Payment:
    """Return the payment that a `record_payment` effect asks for."""
    invoice = _dict(effect.payload["invoice"])
    due_date = invoice["due_date"]
    return Payment(
        key=key,
        run_id=run_id,
        file=str(effect.payload["file"]),
        vendor=str(invoice["vendor"]),
        total=str(invoice["total"]),
        currency=str(invoice["currency"]),
        due_date=None if due_date is None else str(due_date),
    )


def _ask_again(context: JsonDict, doubts: list[Doubt]) -> StepPlan:
    context["doubts"] = _as_json(doubts)
    return StepPlan(node_id="weigh", next_node="ask")


def _as_json(doubts: Iterable[Doubt]) -> JsonValue:
    return cast("JsonValue", [doubt.as_json() for doubt in doubts])


def _context(run: RunState) -> JsonDict:
    return _dict(run.vars["context"])


def _dict(value: JsonValue) -> JsonDict:
    """Narrow a JSON value that is known to be an object."""
    if not isinstance(value, dict):
        raise TypeError(f"expected a JSON object, found {value!r}")
    return value

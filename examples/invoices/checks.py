"""What code can say about an invoice that a language model has read: accept it, ask a person, or reject the letter.

Every field must stand in the letter, the letter itself must call the total a total and the due date due, and the
lines must add up. What fails becomes a `Doubt` with the candidates that the letter offers. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from dates import blank_dates, derived_due_date, due_dates, find_dates, issue_dates, parse_date
from money import CURRENCY_CODES, Amount, currency_readings, find_amounts, parse_amount
from parties import find_names, same_name, stands_in

_T = TypeVar("_T")

FIELDS = ("vendor", "total", "currency", "due_date")

_TOTAL = re.compile(
    r"(?<!sub)(?<!sub[- ])\btotal\b(?! (?:ht|net|excl))|\bamount (?:due|outstanding|payable)|\bbalance due"
    r"|gesamtbetrag|gesamtsumme|rechnungsbetrag|endbetrag|zu zahlen|à payer|montant dû|合計|att betala"
    r"|\bthat makes\b|\bcomes to\b",
    re.IGNORECASE,
)
_SUBTOTAL = re.compile(
    r"sub-? ?total|total (?:ht|net|excl)|net amount|zwischensumme|summe netto|nettobetrag|sous-total|小計",
    re.IGNORECASE,
)
_INCLUDED = re.compile(r"\b(?:included|including|davon|enthalten|dont)\b|\bincl\.", re.IGNORECASE)

# The first that matches says what a letter is; the strong words count where a line begins with them, since an
# invoice may well mention the quotation it follows.
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE | re.MULTILINE))
    for kind, pattern in (
        ("quotation", r"\bnot an invoice\b|keine rechnung|^\W*(?:quotation|estimate|pro ?forma|angebot|devis)\b"),
        ("credit note", r"^\W*(?:credit note|gutschrift|note de crédit|avoir)\b"),
        ("reminder", r"^\W*(?:\w+ )?(?:reminder|mahnung|zahlungserinnerung|rappel)\b"),
        ("invoice", r"\b(?:invoice|rechnung|facture|faktura|factura|fattura)\b|請求書"),
    )
)


class Decision(StrEnum):
    """What becomes of a letter."""

    ACCEPT = "accept"
    ASK = "ask"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why a field is not trusted, and the values that the letter offers for it, the likeliest first."""

    field: str
    reason: str
    candidates: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        return {"field": self.field, "reason": self.reason, "candidates": list(self.candidates)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The outcome of all checks.

    `invoice`: vendor, total ("1234.57"), currency (ISO 4217), due_date (ISO 8601), each None where it could not be
    read. `decision` is ACCEPT exactly when the letter is an invoice and there is no doubt.
    """

    kind: str
    decision: Decision
    invoice: dict[str, str | None]
    doubts: tuple[Doubt, ...]


def check_reading(text: str, reading: Mapping[str, object]) -> Findings:
    """Hold what the model read against the letter. `reading`: the fields as it wrote them; any may be missing."""
    written = {field: _as_text(reading.get(field)) for field in FIELDS}
    vendor, vendor_doubts = check_vendor(text, written["vendor"])
    total, total_doubts = check_total(text, written["total"])
    currency, currency_doubts = check_currency(text, written["currency"])
    due, due_doubts = check_due_date(text, written["due_date"])
    kind = letter_kind(text)
    doubts = [*_kind_doubts(kind), *vendor_doubts, *total_doubts, *currency_doubts, *due_doubts]
    return Findings(
        kind=kind,
        decision=_decide(kind, text, doubts),
        invoice={
            "vendor": vendor,
            "total": None if total is None else str(total),
            "currency": currency,
            "due_date": None if due is None else due.isoformat(),
        },
        doubts=tuple(doubts),
    )


def letter_kind(text: str) -> str:
    """Return "invoice", "reminder", "credit note", "quotation" or "other letter"."""
    return next((kind for kind, pattern in _KINDS if pattern.search(text)), "other letter")


def check_vendor(text: str, written: str) -> tuple[str | None, list[Doubt]]:
    """The vendor must stand in the letter as its sender: letterhead, legal form or mail domain speak for it."""
    names = find_names(text)
    known = [name.written for name in sorted(names, key=lambda name: -len(name.evidence)) if name.evidence]
    candidates = tuple(known or [name.written for name in names])
    if not written:
        return None, [Doubt(field="vendor", reason="the model read no vendor", candidates=candidates)]
    if not stands_in(written, text):
        return written, [
            Doubt(field="vendor", reason=f"{written!r} does not stand in the letter", candidates=candidates)
        ]
    if not any(same_name(written, name) or stands_in(name, written) or stands_in(written, name) for name in known):
        reason = f"nothing shows that {written!r} is the sender (no letterhead, legal form or mail domain)"
        return written, [Doubt(field="vendor", reason=reason, candidates=candidates)]
    return written, []


def check_total(text: str, written: str) -> tuple[Decimal | None, list[Doubt]]:
    """The total must stand in the letter, be called a total there, and be the sum of the lines if there are lines."""
    amounts = find_amounts(blank_dates(text))
    named = _distinct(amount.value for amount in totals(text))
    summed = sum_of_lines(text)
    candidates = tuple(str(value) for value in _distinct([*named, *([summed] if summed is not None else [])]))
    if not candidates and amounts:
        candidates = (str(max(amount.value for amount in amounts)),)
    value = _amount_in(written)
    doubts: list[Doubt] = []

    def doubt(reason: str) -> None:
        doubts.append(Doubt(field="total", reason=reason, candidates=candidates))

    if value is None:
        doubt(f"{written!r} is no amount" if written else "the model read no total")
    elif value not in [amount.value for amount in amounts]:
        doubt(f"{written} does not stand in the letter")
    elif not named:
        doubt("the letter calls no amount its total")
    elif value not in named:
        doubt(f"the letter does not call {written} its total")
    elif len(named) > 1:
        doubt("the letter names several totals")
    if named and summed is not None and summed not in named:
        doubt(f"the lines add up to {summed}, the letter says {named[0]}")
    return value, doubts


def check_currency(text: str, written: str) -> tuple[str | None, list[Doubt]]:
    """The currency must be the only one that the letter can mean: a bare $ may be that of four countries."""
    readings = tuple(currency_readings(text))
    code = written.upper() if written else None
    if not readings:
        return code, [Doubt(field="currency", reason="the letter names no currency")]
    if code not in readings:
        reason = f"{code} does not stand in the letter" if code else "the model read no currency"
        return code, [Doubt(field="currency", reason=reason, candidates=readings)]
    if len(readings) > 1:
        reason = f"the letter may mean {', '.join(readings[:-1])} or {readings[-1]}"
        return code, [Doubt(field="currency", reason=reason, candidates=readings)]
    return code, []


def check_due_date(text: str, written: str) -> tuple[date | None, list[Doubt]]:
    """The due date must be called due in the letter, have one reading, and not lie before the date of issue."""
    called_due = _distinct(reading for found in due_dates(text) for reading in found.readings)
    derived = derived_due_date(text)
    expected = called_due or ([derived] if derived is not None else [])
    candidates = tuple(day.isoformat() for day in expected)
    if written.casefold() in ("", "none", "null", "n/a"):
        if derived is not None and not called_due:
            return derived, []  # nothing to read: "30 days net" is arithmetic, which code does better
        reason = "the model read no due date" if expected else "the letter names no due date"
        return None, [Doubt(field="due_date", reason=reason, candidates=candidates)]
    readings = parse_date(written)
    if not readings:
        return None, [Doubt(field="due_date", reason=f"{written!r} is no date", candidates=candidates)]
    value = readings[0]
    in_letter = {reading for found in find_dates(text) for reading in found.readings}
    reasons = []
    if not in_letter & set(readings) and value != derived:
        reasons.append(f"{written} does not stand in the letter")
    elif not expected:
        reasons.append(f"the letter does not say that {written} is its due date")
    elif not set(readings) & set(expected):
        what = "is derived from its terms" if derived in expected else "is called due"
        reasons.append(f"{written} is not the date that {what} in the letter")
    elif len(called_due) > len(_readings_meant(text, value)):
        reasons.append("the letter calls several dates due")
    elif len(ambiguous := _readings_meant(text, value)) > 1:
        reasons.append(f"{written} may be {ambiguous[0].isoformat()} or {ambiguous[1].isoformat()}")
    issued = [found.readings[0] for found in issue_dates(text)[:1] if len(found.readings) == 1]
    if not reasons and issued and value < issued[0]:
        reasons.append(f"{written} lies before the date of the letter, {issued[0].isoformat()}")
    return value, [Doubt(field="due_date", reason=reason, candidates=candidates) for reason in reasons]


def totals(text: str) -> list[Amount]:
    """Return the amounts that the words before them call the total to pay, in reading order."""
    plain = blank_dates(text)
    amounts = find_amounts(plain)
    return [
        amount
        for before, amount in zip([None, *amounts], amounts, strict=False)
        if _TOTAL.search(_label(plain, before.end if before else 0, amount))
    ]


def sum_of_lines(text: str) -> Decimal | None:
    """Add up the table above the total; None when there are fewer than two lines with an amount at their end.

    Subtotals and amounts that are "included" are passed over, taxes are lines like the others.
    """
    values: list[Decimal] = []
    for line in blank_dates(text).splitlines():
        amounts = find_amounts(line)
        if amounts and _TOTAL.search(line):
            break
        if not amounts or _SUBTOTAL.search(line) or _INCLUDED.search(line) or not _is_row(line, amounts[-1]):
            continue
        values.append(amounts[-1].value)
    return sum(values, Decimal(0)) if len(values) > 1 else None


def validate_invoice(values: Mapping[str, object]) -> tuple[dict[str, str | None], list[Doubt]]:
    """Bring what a person typed into the form of `Findings.invoice`; a doubt per field that makes no payment."""
    written = {field: _as_text(values.get(field)) for field in FIELDS}
    doubts: list[Doubt] = []
    total = parse_amount(written["total"]) if written["total"] else None
    if total is None or total <= 0:
        doubts.append(Doubt(field="total", reason=f"{written['total']!r} is no amount above zero"))
    if not written["vendor"]:
        doubts.append(Doubt(field="vendor", reason="a payment needs a payee"))
    currency = written["currency"].upper()
    if currency not in CURRENCY_CODES:
        doubts.append(Doubt(field="currency", reason=f"{currency!r} is none of {', '.join(CURRENCY_CODES)}"))
    due = parse_date(written["due_date"]) if written["due_date"] else ()
    if written["due_date"] and len(due) != 1:
        doubts.append(
            Doubt(field="due_date", reason=f"{written['due_date']!r} is not one date: write it as 2026-03-31")
        )
    invoice = {
        "vendor": written["vendor"] or None,
        "total": None if total is None else str(total),
        "currency": currency or None,
        "due_date": due[0].isoformat() if len(due) == 1 else None,
    }
    return invoice, doubts


def _decide(kind: str, text: str, doubts: list[Doubt]) -> Decision:
    if kind == "quotation" or (kind == "other letter" and not totals(text)):
        return Decision.REJECT
    return Decision.ASK if doubts else Decision.ACCEPT


def _kind_doubts(kind: str) -> list[Doubt]:
    reasons = {
        "reminder": "it is a reminder: the invoice itself may have been paid",
        "credit note": "it is a credit note: nothing is to be paid",
        "quotation": "it says itself that it is no invoice",
        "other letter": "nothing in it calls itself an invoice",
    }
    return [Doubt(field="kind", reason=reasons[kind])] if kind in reasons else []


def _label(text: str, previous_end: int, amount: Amount) -> str:
    """The words that introduce an amount: its own line, and in running prose up to 60 characters back."""
    line_start = text.rfind("\n", 0, amount.start) + 1
    if previous_end < line_start and not re.search(r" {2}", text[line_start : amount.start]):
        line_start = max(previous_end, amount.start - 60)
    label = text[max(previous_end, line_start) : amount.start]
    return label.rsplit("\n\n", 1)[-1]


def _is_row(line: str, amount: Amount) -> bool:
    """Whether a line is a row of a table: a gap before its amounts and nothing but a currency after the last."""
    return bool(re.search(r"\S {2,}", line[: amount.start])) and not re.search(r"\w{4}|\d", line[amount.end :])


def _readings_meant(text: str, value: date) -> list[date]:
    """All readings of the due date that may be meant by `value`."""
    return next((list(found.readings) for found in due_dates(text) if value in found.readings), [value])


def _amount_in(written: str) -> Decimal | None:
    """One amount, with or without its currency beside it."""
    value = parse_amount(written)
    if value is not None:
        return value
    found = find_amounts(written)
    return found[0].value if len(found) == 1 else None


def _as_text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _distinct(values: Iterable[_T]) -> list[_T]:
    return list(dict.fromkeys(values))

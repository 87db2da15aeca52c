"""What the language model is asked: which of the values that stand in a letter are the invoice's.

The JSON schema offers, for each field, what code found in the letter (names, amounts, currencies, dates), as it is
written there. A small model chooses better than it copies: SmolLM2-135M reads all four fields right in 10 of the 15
letters that ask for money, in 2 of them when it may write what it likes. The order counts, too: with the due date first
and the vendor last it has 10 right, the other way round 7.
"""

from __future__ import annotations

import json

from dates import blank_dates, find_dates
from money import currency_readings, find_amounts
from parties import find_names

from abstractruntime.models import JsonDict, JsonValue

NO_DATE = "none"
_LONGEST_VALUE = 60
_LONGEST_ANSWER_TOKENS = 160

_TASK = (
    "You read invoices. Copy from the letter, exactly as written: the vendor (who sends the invoice), "
    "the total to pay, its currency (three letters) and the due date."
)
_QUESTION = "When must it be paid, what is the total to pay, in which currency, and who sends it?"
_EXAMPLE_LETTER = """\
OAKFIELD PAPER SUPPLIES LTD
Invoice 204                       Date: 5 May 2025
Bill to: Hilltop Dental Practice

  Copy paper, 20 boxes      £300.00
  Envelopes                  £45.00
  Subtotal                  £345.00
  VAT 20 %                   £69.00
  Total                     £414.00

Please pay by 4 June 2025.
Contact: Sam Rowe, sam@oakfield.example
"""
_EXAMPLE_ANSWER = {
    "due_date": "4 June 2025",
    "total": "414.00",
    "currency": "GBP",
    "vendor": "OAKFIELD PAPER SUPPLIES LTD",
}


def extraction_payload(letter: str) -> JsonDict:
    """Return the payload of an `llm_call` effect that reads `letter`; its answer's `data` has the four fields."""
    messages: list[JsonValue] = [
        {"role": "system", "content": _TASK},
        {"role": "user", "content": _asked_about(_EXAMPLE_LETTER)},
        {"role": "assistant", "content": json.dumps(_EXAMPLE_ANSWER)},
        {"role": "user", "content": _asked_about(letter)},
    ]
    return {
        "messages": messages,
        "response_schema": invoice_schema(letter),
        "response_schema_name": "invoice",
        "params": {"temperature": 0, "max_tokens": _LONGEST_ANSWER_TOKENS},
    }


def invoice_schema(letter: str) -> JsonDict:
    """Return the JSON schema of an answer about `letter`, its fields in the order in which they are asked for."""
    properties: JsonDict = {
        "due_date": _one_of([found.written for found in find_dates(letter)] + [NO_DATE]),
        "total": _one_of([found.written for found in find_amounts(blank_dates(letter))]),
        "currency": _one_of(currency_readings(letter)),
        "vendor": _one_of([found.written for found in find_names(letter)]),
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _one_of(values: list[str]) -> JsonDict:
    if not values:
        return {"type": "string", "maxLength": _LONGEST_VALUE}
    return {"type": "string", "enum": list(dict.fromkeys(values))}


def _asked_about(letter: str) -> str:
    return f"{letter.strip()}\n\n{_QUESTION}"

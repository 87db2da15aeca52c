"""The demo's own parts: what code finds in a letter, what it doubts, what it pays, and what its proof notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Self

import pytest
from msgspec import structs

from abstractruntime import RunState, RunStatus, Runtime, open_runtime
from abstractruntime.errors import RetryableError
from abstractruntime.integrations import make_llm_call_handler
from abstractruntime.models import JsonDict

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "invoices"
sys.path.insert(0, str(EXAMPLE))  # its modules are scripts beside each other, as a user runs them

from approvals import AnswersFile, NoAnswer  # noqa: E402
from batch import FolderInUse, load_batch, new_batch, save_batch, sole_use  # noqa: E402
from checks import Decision, check_reading, letter_kind, sum_of_lines, totals, validate_invoice  # noqa: E402
from dates import blank_dates, derived_due_date, due_dates, find_dates, parse_date  # noqa: E402
from extraction import invoice_schema  # noqa: E402
from money import currency_readings, find_amounts, parse_amount  # noqa: E402
from parties import find_names, same_name, stands_in  # noqa: E402
from payments import Payment, PaymentsFile  # noqa: E402
from proof import contradictions, gather  # noqa: E402
from workflow import PAYABLE, RECORD_PAYMENT, effect_handlers  # noqa: E402

LETTERS = sorted(path.name for path in (EXAMPLE / "letters").glob("*.txt"))
ANSWERS = json.loads((EXAMPLE / "answers.json").read_text(encoding="utf-8"))


def letter(file: str) -> str:
    return (EXAMPLE / "letters" / file).read_text(encoding="utf-8")


def doubted(text: str, **reading: object) -> set[str]:
    return {doubt.field for doubt in check_reading(text, reading).doubts}


# -- amounts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1,240.00", "1240.00"),
        ("1.234,57", "1234.57"),
        ("1 850,00", "1850.00"),
        ("12 400,00", "12400.00"),
        ("12\u202f400,00", "12400.00"),
        ("4'750.00", "4750.00"),
        ("4’750.00", "4750.00"),
        ("1,44,900.00", "144900.00"),
        ("79,500", "79500"),
        ("1.000.000", "1000000"),
        ("338.87", "338.87"),
        ("49,5", "49.5"),
        ("612", "612"),
    ],
)
def test_an_amount_is_read_whatever_its_separators(written: str, value: str) -> None:
    assert parse_amount(written) == Decimal(value)


@pytest.mark.parametrize("written", ["", "none", "EUR", "12a", "1-2"])
def test_what_is_no_number_is_no_amount(written: str) -> None:
    assert parse_amount(written) is None


def test_amounts_are_numbers_with_two_decimals_or_beside_a_currency() -> None:
    text = "Invoice 2026-118, 60 sq m at £9.00, 19 % VAT, ¥54,000, 300 EUR, 12 pieces"
    assert [amount.written for amount in find_amounts(text)] == ["9.00", "54,000", "300"]


def test_an_amount_is_found_at_its_place() -> None:
    text = "Total due   £1,240.00 now"
    (amount,) = find_amounts(text)
    assert text[amount.start : amount.end] == "1,240.00"


def test_a_date_is_no_amount_once_it_is_blanked_out() -> None:
    text = "am 29.01.2026 über 72,50 €"
    assert [amount.written for amount in find_amounts(blank_dates(text))] == ["72,50"]


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("£12.00", ["GBP"]),
        ("12,00 €", ["EUR"]),
        ("$12.00", ["USD", "CAD", "AUD", "NZD"]),
        ("$12.00 USD", ["USD"]),
        ("CHF 12.00", ["CHF"]),
        ("¥1,200", ["JPY", "CNY"]),
        ("合計 ¥1,200 お支払", ["JPY"]),
        ("12,00 kr", ["SEK", "NOK", "DKK"]),
        ("12,00 kr, att betala i SEK", ["SEK"]),
        ("EUR 12.00 or $13.00", ["EUR", "USD", "CAD", "AUD", "NZD"]),
        ("twelve", []),
    ],
)
def test_a_sign_with_several_readings_is_open_until_the_text_settles_it(text: str, readings: list[str]) -> None:
    assert currency_readings(text) == readings


# -- dates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("14 March 2026", date(2026, 3, 14)),
        ("March 14, 2026", date(2026, 3, 14)),
        ("14th of March 2026", date(2026, 3, 14)),
        ("Mar 22, 2026", date(2026, 3, 22)),
        ("20-Mar-2026", date(2026, 3, 20)),
        ("10 Feb 2026", date(2026, 2, 10)),
        ("28.02.2026", date(2026, 2, 28)),
        ("28.2.26", date(2026, 2, 28)),
        ("28. Februar 2026", date(2026, 2, 28)),
        ("3. März 2026", date(2026, 3, 3)),
        ("15 mars 2026", date(2026, 3, 15)),
        ("1er août 2026", date(2026, 8, 1)),
        ("3 février 2026", date(2026, 2, 3)),
        ("2026-04-10", date(2026, 4, 10)),
        ("2026/4/10", date(2026, 4, 10)),
        ("2026年3月31日", date(2026, 3, 31)),
        ("17/02/2026", date(2026, 2, 17)),
        ("02/17/2026", date(2026, 2, 17)),
        ("04/04/2026", date(2026, 4, 4)),
    ],
)
def test_a_date_is_read_however_it_is_written(written: str, day: date) -> None:
    assert parse_date(written) == (day,)


def test_a_slashed_date_that_may_be_either_has_both_readings() -> None:
    assert parse_date("03/04/2026") == (date(2026, 4, 3), date(2026, 3, 4))


def test_another_date_of_the_letter_tells_the_order_of_day_and_month() -> None:
    assert find_dates("02/03/2026, not 17/02/2026")[0].readings == (date(2026, 3, 2),)
    assert find_dates("02/03/2026, not 02/17/2026")[0].readings == (date(2026, 2, 3),)


def test_dates_that_contradict_each_other_leave_the_order_open() -> None:
    assert len(find_dates("02/03/2026, 17/02/2026, 02/18/2026")[0].readings) == 2


@pytest.mark.parametrize("written", ["31.02.2026", "2026-13-01", "tomorrow", "", "14 March", "1.234,57"])
def test_what_is_no_day_is_no_date(written: str) -> None:
    assert parse_date(written) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Invoice of 1 February 2026. Payment is due by 14 March 2026.",
        "Datum: 01.02.2026\nBitte überweisen Sie den Betrag bis zum 14.03.2026.",
        "le 1 février 2026\n\nDate d'échéance : 14 mars 2026",
        "発行日: 2026年2月1日\nお支払期限: 2026年3月14日",
        "Feb 1, 2026\nPlease pay by Mar 14, 2026",
        "Dated 1-Feb-2026. Payable on or before 14-Mar-2026.",
    ],
)
def test_the_due_date_is_the_one_that_is_called_due(text: str) -> None:
    assert [found.readings for found in due_dates(text)] == [(date(2026, 3, 14),)]


@pytest.mark.parametrize(
    "terms", ["Terms: 30 days net", "net 30", "Zahlbar innerhalb von 30 Tagen", "Paiement sous 30 jours"]
)
def test_a_due_date_follows_from_terms_and_date_of_issue(terms: str) -> None:
    assert derived_due_date(f"Invoice date: 2026-02-16\n{terms}") == date(2026, 3, 18)


@pytest.mark.parametrize(
    "text",
    [
        "Terms: 30 days net",
        "Invoice date: 03/04/2026\nTerms: 30 days net",
        "Invoice date: 2026-02-16\nBread, 24 days",
        "Invoice date: 2026-02-16\nTerms: 14 days net with 2 % off, 30 days net",
    ],
)
def test_terms_that_are_not_certain_give_no_due_date(text: str) -> None:
    assert derived_due_date(text) is None


# -- names -------------------------------------------------------------------------------------------------------------


def test_the_sender_is_known_by_letterhead_legal_form_or_mail_domain() -> None:
    evidence = {name.written: name.evidence for name in find_names(letter("05_prairie_freight_mail.txt"))}
    assert evidence["Prairie Freight Lines, Inc."] == ("legal form", "mail domain")
    assert evidence["Duke Hanley"] == ()
    evidence = {name.written: name.evidence for name in find_names(letter("03_atelier_lavigne.txt"))}
    assert evidence == {"Atelier Lavigne": ("letterhead",), "Hélène Lavigne": ()}


@pytest.mark.parametrize("file", LETTERS)
def test_neither_addressee_nor_heading_nor_item_passes_for_a_sender(file: str) -> None:
    written = {name.written for name in find_names(letter(file))}
    others = {"Larkspur Daycare", "Riverside Hotel", "Bergen Chess Club", "INVOICE", "Total", "Turf", "Kran", "Sill"}
    assert not written & others


def test_names_are_compared_without_case_and_punctuation() -> None:
    assert same_name("CHANDRA TEXTILES PVT. LTD.", "Chandra Textiles Pvt Ltd")
    assert stands_in("Hoshino Insatsu K.K.", "from Hoshino\nInsatsu K. K. (Tokyo)")
    assert not stands_in("Ash", "4 Mill Lane, Ashcombe")
    assert not stands_in("", "anything")


# -- checks ------------------------------------------------------------------------------------------------------------

PLAIN = """\
Granby Street Bakery
Invoice 3051

Date: 27 February 2026
For: Riverside Hotel

  Bread, 24 days at £31.00        £744.00
  Pastries, 8 days at £45.50      £364.00

Total: £1,108.00
Due date: 13 March 2026
"""
RIGHT = {"vendor": "Granby Street Bakery", "total": "1,108.00", "currency": "GBP", "due_date": "13 March 2026"}


def test_an_invoice_without_doubts_is_accepted_and_normalised() -> None:
    findings = check_reading(PLAIN, RIGHT)
    assert findings.decision is Decision.ACCEPT
    assert findings.invoice == {
        "vendor": "Granby Street Bakery",
        "total": "1108.00",
        "currency": "GBP",
        "due_date": "2026-03-13",
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vendor", "Granby Bank"),
        ("vendor", ""),
        ("vendor", "Riverside Hotel"),
        ("total", "1,180.00"),
        ("total", "744.00"),
        ("total", "a lot"),
        ("total", None),
        ("currency", "EUR"),
        ("currency", None),
        ("due_date", "27 February 2026"),
        ("due_date", "14 March 2026"),
        ("due_date", "soon"),
        ("due_date", "none"),
    ],
)
def test_a_value_that_the_letter_does_not_bear_out_is_doubted_alone(field: str, value: object) -> None:
    findings = check_reading(PLAIN, {**RIGHT, field: value})
    assert findings.decision is Decision.ASK
    assert {doubt.field for doubt in findings.doubts} == {field}


def test_a_doubt_offers_what_the_letter_has_instead() -> None:
    (doubt,) = check_reading(PLAIN, {**RIGHT, "total": "744.00"}).doubts
    assert doubt.candidates == ("1108.00",)
    (doubt,) = check_reading(PLAIN, {**RIGHT, "due_date": "27 February 2026"}).doubts
    assert doubt.candidates == ("2026-03-13",)


def test_an_answer_with_nothing_in_it_is_doubted_field_by_field() -> None:
    assert doubted(PLAIN) == {"vendor", "total", "currency", "due_date"}


def test_lines_that_do_not_add_up_are_doubted_with_both_sums() -> None:
    text = PLAIN.replace("£364.00", "£346.00")
    (doubt,) = check_reading(text, RIGHT).doubts
    assert (doubt.field, doubt.candidates) == ("total", ("1108.00", "1090.00"))


def test_subtotals_and_included_taxes_are_no_lines_and_taxes_are() -> None:
    text = letter("02_brockmann_elektrotechnik.txt")
    assert sum_of_lines(text) == Decimal("1234.57")
    with_note = PLAIN.replace("\nTotal:", "  VAT included in this            £100.00\n\nTotal:")
    assert sum_of_lines(with_note) == Decimal("1108.00")


def test_prose_is_no_table() -> None:
    assert sum_of_lines(letter("07_marlow_piano.txt")) is None


def test_totals_are_what_the_letter_calls_so() -> None:
    assert [amount.written for amount in totals(letter("14_chandra_textiles.txt"))] == ["1,44,900.00"]
    assert [amount.written for amount in totals(letter("07_marlow_piano.txt"))] == ["145.00"]
    assert [amount.written for amount in totals(letter("05_prairie_freight_mail.txt"))] == ["2,310.00"]


def test_an_ambiguous_due_date_is_doubted_with_both_readings() -> None:
    text = PLAIN.replace("13 March 2026", "03/04/2026")
    (doubt,) = check_reading(text, {**RIGHT, "due_date": "03/04/2026"}).doubts
    assert doubt.candidates == ("2026-04-03", "2026-03-04")


def test_a_due_date_before_the_letter_itself_is_doubted() -> None:
    text = PLAIN.replace("13 March 2026", "13 March 2025")
    assert doubted(text, **{**RIGHT, "due_date": "13 March 2025"}) == {"due_date"}


def test_a_derivable_due_date_is_filled_in_without_a_doubt_when_none_was_read() -> None:
    text = PLAIN.replace("Due date: 13 March 2026", "Terms: 14 days net")
    findings = check_reading(text, {**RIGHT, "due_date": "none"})
    assert (findings.decision, findings.invoice["due_date"]) == (Decision.ACCEPT, "2026-03-13")


def test_a_derivable_due_date_is_offered_when_another_was_read() -> None:
    text = PLAIN.replace("Due date: 13 March 2026", "Terms: 14 days net")
    (doubt,) = check_reading(text, {**RIGHT, "due_date": "27 February 2026"}).doubts
    assert doubt.candidates == ("2026-03-13",)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("01_kestrel_garden_works.txt", "invoice"),
        ("04_hoshino_insatsu.txt", "invoice"),
        ("09_complaint_letter.txt", "other letter"),
        ("10_delmare_credit_note.txt", "credit note"),
        ("11_harrow_reminder.txt", "reminder"),
        ("15_stonebridge_quotation.txt", "quotation"),
        ("17_osthavet_fisk.txt", "invoice"),
    ],
)
def test_a_letter_is_what_it_calls_itself(file: str, kind: str) -> None:
    assert letter_kind(letter(file)) == kind


def test_an_invoice_that_mentions_a_quotation_stays_an_invoice() -> None:
    assert letter_kind("Invoice 7, as in our quotation of May.\nThis is a reminder of our friendship.") == "invoice"


# -- the letters and their answers -------------------------------------------------------------------------------------


def test_every_letter_has_an_answer_and_every_answer_a_letter() -> None:
    assert sorted(ANSWERS) == LETTERS
    assert len(LETTERS) >= 12


@pytest.mark.parametrize("file", [file for file in LETTERS if "reject" not in ANSWERS[file]])
def test_what_the_answers_file_says_can_be_paid(file: str) -> None:
    invoice, doubts = validate_invoice(ANSWERS[file])
    assert doubts == []
    assert invoice == ANSWERS[file]


@pytest.mark.parametrize("file", LETTERS)
def test_what_code_accepts_is_what_a_careful_person_reads(file: str) -> None:
    """Whatever a model chooses among the values of a letter, code lets nothing wrong pass."""
    text = letter(file)
    offered = {field: schema.get("enum", [""]) for field, schema in invoice_schema(text)["properties"].items()}
    for choice in product(*offered.values()):
        findings = check_reading(text, dict(zip(offered, choice, strict=True)))
        if findings.decision is Decision.ACCEPT:
            assert findings.invoice == ANSWERS[file]


@pytest.mark.parametrize("file", ["09_complaint_letter.txt", "15_stonebridge_quotation.txt"])
def test_a_letter_that_is_no_invoice_is_rejected_by_code(file: str) -> None:
    assert check_reading(letter(file), {}).decision is Decision.REJECT


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"total": "0"}, "total"),
        ({"total": "much"}, "total"),
        ({"vendor": " "}, "vendor"),
        ({"currency": "EURO"}, "currency"),
        ({"due_date": "03/04/2026"}, "due_date"),
        ({"due_date": "soon"}, "due_date"),
    ],
)
def test_what_a_person_types_is_checked_before_it_is_paid(values: dict[str, str], field: str) -> None:
    _, doubts = validate_invoice({**ANSWERS["13_granby_bakery.txt"], **values})
    assert [doubt.field for doubt in doubts] == [field]


def test_what_a_person_types_is_read_in_any_form() -> None:
    invoice, doubts = validate_invoice(
        {"vendor": "A. B.", "total": "1.234,50", "currency": "eur", "due_date": "3. März 2026"}
    )
    assert doubts == []
    assert invoice == {"vendor": "A. B.", "total": "1234.50", "currency": "EUR", "due_date": "2026-03-03"}


# -- the payments file -------------------------------------------------------------------------------------------------

PAYMENT = Payment(
    key="k1", run_id="r1", file="a.txt", vendor="Bäckerei", total="12.50", currency="EUR", due_date="2026-03-13"
)


def test_a_recorded_payment_is_found_by_its_key(tmp_path: Path) -> None:
    payments = PaymentsFile(tmp_path / "payments.jsonl")
    assert payments.all() == []
    payments.record(PAYMENT)
    assert payments.find("k1") == PAYMENT
    assert payments.find("k2") is None


def test_half_a_line_was_never_paid_and_is_not_glued_to_the_next(tmp_path: Path) -> None:
    payments = PaymentsFile(tmp_path / "payments.jsonl")
    payments.record(PAYMENT)
    with payments.path.open("a", encoding="utf-8") as file:
        file.write('{"key": "k2", "run')
    assert payments.all() == [PAYMENT]
    third = replace(PAYMENT, key="k3")
    payments.record(third)
    assert payments.all() == [PAYMENT, third]


# -- the workflow ------------------------------------------------------------------------------------------------------


class ScriptedLLM:
    """Reads in every letter what it was told to; fails as often as it was told to before."""

    def __init__(self, reading: dict[str, str], failures: int = 0) -> None:
        self._reading = reading
        self._failures = failures

    def generate(self, **_: object) -> JsonDict:
        if self._failures:
            self._failures -= 1
            raise RetryableError("the server is busy")
        return {"content": json.dumps(self._reading), "usage": None}


class Desk:
    """A runtime with one letter and a payments file."""

    def __init__(
        self, tmp_path: Path, llm: ScriptedLLM, after_payment: Callable[[Payment], None] | None = None
    ) -> None:
        (tmp_path / "letters").mkdir()
        (tmp_path / "letters" / "a.txt").write_text(PLAIN, encoding="utf-8")
        self.letters = tmp_path / "letters"
        self.payments = PaymentsFile(tmp_path / "payments.jsonl")
        handlers = dict(effect_handlers(self.letters, self.payments, after_payment=after_payment or (lambda _: None)))
        # A moment: the test is about what follows when the time of a payment is up.
        handlers[RECORD_PAYMENT] = structs.replace(handlers[RECORD_PAYMENT], timeout_s=0.001)
        handlers["llm_call"] = make_llm_call_handler(llm)
        self.runtime: Runtime = open_runtime("memory:", workflows=[PAYABLE], effect_handlers=handlers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.runtime.close()

    def start(self, file: str = "a.txt") -> RunState:
        run_id = self.runtime.start(workflow=PAYABLE, vars={"context": {"file": file}})
        return self.runtime.tick(run_id=run_id)

    def answer(self, state: RunState, payload: object) -> RunState:
        assert state.waiting is not None
        return self.runtime.resume(run_id=state.run_id, wait_key=state.waiting.wait_key, payload=payload)


DOUBTFUL = {**RIGHT, "total": "744.00"}


def test_an_accepted_invoice_is_paid_once_and_nobody_is_asked(tmp_path: Path) -> None:
    with Desk(tmp_path, ScriptedLLM(RIGHT)) as desk:
        state = desk.start()
        assert state.status is RunStatus.COMPLETED
        assert state.output is not None
        assert (state.output["accepted"], state.output["decided_by"]) == (True, "code")
        (payment,) = desk.payments.all()
        assert (payment.vendor, payment.total, payment.currency) == ("Granby Street Bakery", "1108.00", "GBP")


def test_a_doubtful_invoice_waits_for_a_person_with_all_there_is_to_know(tmp_path: Path) -> None:
    with Desk(tmp_path, ScriptedLLM(DOUBTFUL)) as desk:
        state = desk.start()
        assert state.waiting is not None
        assert state.waiting.choices == ["approve", "correct", "reject"]
        assert state.waiting.details is not None
        assert state.waiting.details["letter"] == PLAIN
        assert state.waiting.details["invoice"]["total"] == "744.00"
        assert [doubt["candidates"] for doubt in state.waiting.details["doubts"]] == [["1108.00"]]
        assert desk.payments.all() == []


def test_a_correction_is_what_is_paid(tmp_path: Path) -> None:
    with Desk(tmp_path, ScriptedLLM(DOUBTFUL)) as desk:
        answer = {"choice": "correct", "values": {"total": "1,108.00"}, "by": "Ann"}
        state = desk.answer(desk.start(), answer)
        assert state.output is not None
        assert state.output["decided_by"] == "Ann"
        assert [payment.total for payment in desk.payments.all()] == ["1108.00"]


def test_a_bare_word_is_an_answer(tmp_path: Path) -> None:
    with Desk(tmp_path, ScriptedLLM(DOUBTFUL)) as desk:
        assert desk.answer(desk.start(), "reject").output["accepted"] is False
        assert desk.payments.all() == []
        assert desk.answer(desk.start(), "approve").output["accepted"] is True
        assert [payment.total for payment in desk.payments.all()] == ["744.00"]


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ({"choice": "correct", "values": {"total": "lots"}}, "total"),
        ({"choice": "correct", "values": {"due_date": "03/04/2026"}}, "due_date"),
        ("perhaps", "answer"),
    ],
)
def test_an_answer_that_cannot_be_paid_is_asked_again_with_the_reason(
    tmp_path: Path, answer: object, field: str
) -> None:
    with Desk(tmp_path, ScriptedLLM(DOUBTFUL)) as desk:
        state = desk.answer(desk.start(), answer)
        assert state.status is RunStatus.WAITING
        assert state.waiting is not None
        assert state.waiting.details is not None
        assert [doubt["field"] for doubt in state.waiting.details["doubts"]] == [field]
        assert desk.answer(state, "reject").status is RunStatus.COMPLETED
        assert desk.payments.all() == []


def test_a_letter_that_is_no_invoice_ends_without_a_question(tmp_path: Path) -> None:
    with Desk(tmp_path, ScriptedLLM(dict.fromkeys(RIGHT, "none"))) as desk:
        (desk.letters / "b.txt").write_text("Dear all, thank you for the fish.", encoding="utf-8")
        state = desk.start("b.txt")
        assert state.output is not None
        assert (state.output["accepted"], state.output["decided_by"]) == (False, "code")


@pytest.mark.parametrize("file", ["../payments.jsonl", "missing.txt"])
def test_only_letters_of_the_folder_are_read(tmp_path: Path, file: str) -> None:
    with Desk(tmp_path, ScriptedLLM(RIGHT)) as desk:
        state = desk.start(file)
        assert state.status is RunStatus.FAILED
        assert file in str(state.error)


def test_a_run_that_failed_at_the_model_goes_on_when_it_is_retried(tmp_path: Path) -> None:
    with Desk(tmp_path, ScriptedLLM(RIGHT, failures=1)) as desk:
        state = desk.start()
        assert state.status is RunStatus.FAILED
        desk.runtime.retry(state.run_id)
        assert desk.runtime.tick(run_id=state.run_id).status is RunStatus.COMPLETED
        assert len(desk.payments.all()) == 1


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_payment_that_is_found_in_the_file_is_not_repeated(tmp_path: Path) -> None:
    def die(payment: Payment) -> None:
        raise Killed

    with Desk(tmp_path, ScriptedLLM(RIGHT), die) as desk:
        with pytest.raises(Killed):
            desk.start()
        assert len(desk.payments.all()) == 1
        (head,) = desk.runtime.find(workflow_id=PAYABLE.workflow_id).items
        state = desk.runtime.tick(run_id=head.run_id)
        while state.stopped == "in_doubt":  # the payment's millisecond
            state = desk.runtime.tick(run_id=head.run_id)
        assert state.status is RunStatus.COMPLETED
        assert len(desk.payments.all()) == 1
        (evidence,) = gather(desk.runtime, [head.run_id], desk.payments.all())
        assert evidence.reconciled == evidence.completed == (desk.payments.all()[0].key,)


# -- the proof ---------------------------------------------------------------------------------------------------------


def test_the_proof_notices_each_way_to_cheat(tmp_path: Path) -> None:
    with Desk(tmp_path, ScriptedLLM(RIGHT)) as desk:
        run_id = desk.start().run_id
        honest = desk.payments.all()

        def against(payments: list[Payment]) -> list[str]:
            return contradictions(gather(desk.runtime, [run_id], payments), payments)

        assert against(honest) == []
        assert any("0 payments of it" in reason for reason in against([]))
        assert any("2 times in the file" in reason for reason in against(honest * 2))
        assert any("different keys" in reason for reason in against([replace(honest[0], key="other")]))
        assert any("not what was approved" in reason for reason in against([replace(honest[0], total="9.99")]))
        stranger = replace(honest[0], run_id="stranger", key="other")
        assert any("no run of this batch" in reason for reason in against([*honest, stranger]))


def test_a_payment_for_a_rejected_letter_is_noticed(tmp_path: Path) -> None:
    with Desk(tmp_path, ScriptedLLM(DOUBTFUL)) as desk:
        state = desk.answer(desk.start(), "reject")
        payments = [replace(PAYMENT, run_id=state.run_id)]
        (first, *_) = contradictions(gather(desk.runtime, [state.run_id], payments), payments)
        assert "1 payments of it, not 0" in first


# -- answers and batches -----------------------------------------------------------------------------------------------


def question(**invoice: str | None) -> JsonDict:
    return {"file": "a.txt", "letter": "…", "invoice": {**ANSWERS["13_granby_bakery.txt"], **invoice}, "doubts": []}


def answers_file(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "answers.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_answers_file_approves_what_was_read_right_and_corrects_the_rest(tmp_path: Path) -> None:
    answers = AnswersFile(answers_file(tmp_path, {"a.txt": ANSWERS["13_granby_bakery.txt"]}))
    assert answers.answer(question())["choice"] == "approve"
    correction = answers.answer(question(total="1.00"))
    assert (correction["choice"], correction["values"]) == ("correct", ANSWERS["13_granby_bakery.txt"])


def test_the_answers_file_can_reject(tmp_path: Path) -> None:
    answers = AnswersFile(answers_file(tmp_path, {"a.txt": {"reject": "a duplicate"}}))
    assert answers.answer(question())["choice"] == "reject"


@pytest.mark.parametrize("content", ["not json", [], {"a.txt": "approve"}])
def test_a_file_that_holds_no_answers_is_refused_by_name(tmp_path: Path, content: object) -> None:
    with pytest.raises(NoAnswer, match=r"answers\.json"):
        AnswersFile(answers_file(tmp_path, content))


@pytest.mark.parametrize("content", [{}, {"a.txt": {"vendor": "A", "total": "none", "currency": "EUR"}}])
def test_a_question_without_a_usable_answer_names_the_letter(tmp_path: Path, content: object) -> None:
    with pytest.raises(NoAnswer, match=r"a\.txt"):
        AnswersFile(answers_file(tmp_path, content)).answer(question())


def test_a_batch_is_what_it_was_after_the_death_of_the_demo(tmp_path: Path) -> None:
    assert load_batch(tmp_path) is None
    batch = new_batch(tmp_path, EXAMPLE / "letters", "sqlite:///runs.db")
    assert list(batch.files) == LETTERS
    assert load_batch(tmp_path) == batch
    save_batch(tmp_path, replace(batch, crash_shown=True))
    assert load_batch(tmp_path) == replace(batch, crash_shown=True)


def test_a_folder_has_one_demo_at_a_time(tmp_path: Path) -> None:
    with sole_use(tmp_path), pytest.raises(FolderInUse, match=str(os.getpid())), sole_use(tmp_path):
        pass
    with sole_use(tmp_path):
        pass


# -- the whole demo ----------------------------------------------------------------------------------------------------


@contextmanager
def llm_server() -> Iterator[str]:
    """An OpenAI-compatible server that takes the first of the values it is offered."""

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            schema = request["response_format"]["json_schema"]["schema"]
            answer = {name: field.get("enum", ["?"])[0] for name, field in schema["properties"].items()}
            message = {"role": "assistant", "content": json.dumps(answer)}
            body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def demo(folder: Path, base_url: str, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ABSTRACTRUNTIME_")}
    command = [sys.executable, str(EXAMPLE / "demo.py"), "--dir", str(folder), "--base-url", base_url, *options]
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_the_demo_kills_its_worker_in_a_payment_and_pays_each_invoice_once(tmp_path: Path) -> None:
    with llm_server() as base_url:
        ended = demo(tmp_path, base_url)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "was killed (SIGKILL) while paying" in ended.stdout
    assert "was found in the file: not repeated" in ended.stdout
    batch = load_batch(tmp_path)
    assert batch is not None
    assert batch.finished
    payments = PaymentsFile(tmp_path / batch.name / "payments.jsonl").all()
    paid = {file for file, answer in ANSWERS.items() if "reject" not in answer}
    assert Counter(payment.file for payment in payments) == Counter(paid)
    for payment in payments:
        assert {name: getattr(payment, name) for name in ANSWERS[payment.file]} == ANSWERS[payment.file]


@pytest.mark.slow
def test_an_unfinished_demo_is_continued_and_a_finished_one_begins_afresh(tmp_path: Path) -> None:
    ended = demo(tmp_path, "http://127.0.0.1:9/v1")
    assert ended.returncode == 2
    assert "no LLM server answers" in ended.stdout
    with llm_server() as base_url:
        ended = demo(tmp_path, base_url)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "Going on with the unfinished batch" in ended.stdout
    ended = demo(tmp_path, "http://127.0.0.1:9/v1")
    assert "A new batch" in ended.stdout
    assert "is finished" in ended.stdout

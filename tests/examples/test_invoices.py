"""The demo's own parts: what code finds in a letter, what it doubts, what it pays, and what its proof notices."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "invoices"
sys.path.insert(0, str(EXAMPLE))  # its modules are scripts beside each other, as a user runs them

from checks import Decision, check_reading, letter_kind, sum_of_lines, totals, validate_invoice  # noqa: E402
from dates import blank_dates, derived_due_date, due_dates, find_dates, parse_date  # noqa: E402
from extraction import invoice_schema  # noqa: E402
from money import currency_readings, find_amounts, parse_amount  # noqa: E402
from parties import find_names, same_name, stands_in  # noqa: E402
from payments import Payment, PaymentsFile  # noqa: E402

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

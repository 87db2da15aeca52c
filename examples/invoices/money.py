"""Amounts and currencies as people write them: 1,240.00, 1.234,57, 1 850,00, 4'750.00, 1,44,900.00, ¥79,500."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

# What a sign or word may mean. A sign with several readings says too little to send money by.
CURRENCY_SIGNS: dict[str, tuple[str, ...]] = {
    "€": ("EUR",),
    "£": ("GBP",),
    "$": ("USD", "CAD", "AUD", "NZD"),
    "US$": ("USD",),
    "¥": ("JPY", "CNY"),
    "円": ("JPY",),
    "₹": ("INR",),
    "Rs.": ("INR",),
    "Rs": ("INR",),
    "kr": ("SEK", "NOK", "DKK"),
    "Fr.": ("CHF",),
}
CURRENCY_CODES = (
    *("AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "INR"),
    *("JPY", "KRW", "MXN", "NOK", "NZD", "PLN", "SEK", "SGD", "TRY", "USD", "ZAR"),
)

_SIGN = "|".join(re.escape(sign) for sign in sorted(CURRENCY_SIGNS, key=len, reverse=True))
_CURRENCY = re.compile(rf"(?<![A-Za-z])(?:{_SIGN}|{'|'.join(CURRENCY_CODES)})(?![A-Za-z])")

# No-break and narrow no-break spaces separate thousands in French and Swedish letters; a plain space does so
# only before exactly three digits.
_SPACE = " \u00a0\u202f"
_NUMBER = re.compile(
    rf"""
    (?<![\w.,/'’-])
    (?: \d{{1,3}} (?: [{_SPACE}]\d{{3}} )+ (?: [.,]\d{{1,2}} )?
      | \d+ (?: [.,'’]\d{{1,3}} )*
    )
    (?![\w/'’-]|[.,]\d)
    """,
    re.VERBOSE,
)
_KANA = re.compile(r"[\u3040-\u30ff]|円|御中|請求")


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A sum of money in a text: how it is written, what it is worth, where it starts and ends."""

    written: str
    value: Decimal
    start: int
    end: int


def parse_amount(written: str) -> Decimal | None:
    """Read one number whatever separators it has; None when it is no number.

    The last separator is the decimal point when one or two digits follow it; before three digits every
    separator is one of thousands, since invoices do not have thousandths.
    """
    text = re.sub(rf"[{_SPACE}'’]", "", written.strip())
    match = re.fullmatch(r"(-?\d[\d.,]*?)(?:[.,](\d{1,2}))?", text)
    if match is None:
        return None
    whole, fraction = match.groups()
    try:
        return Decimal(re.sub(r"[.,]", "", whole) + (f".{fraction}" if fraction else ""))
    except InvalidOperation:
        return None


def find_amounts(text: str) -> list[Amount]:
    """Return every sum of money in reading order: a number with two decimals, or one beside a currency.

    Blank out the dates first (`dates.blank_dates`): "12.02" of "12.02.2026" would pass for an amount.
    """
    found: list[Amount] = []
    for match in _NUMBER.finditer(text):
        written = match.group()
        value = parse_amount(written)
        if value is None or _is_percentage(text, match.end()):
            continue
        if re.search(r"[.,]\d\d$", written) or _beside_currency(text, match.start(), match.end()):
            found.append(Amount(written=written, value=value, start=match.start(), end=match.end()))
    return found


def currency_readings(text: str) -> list[str]:
    """Return the currencies the text may mean, the certain ones first.

    One code: the text is unambiguous. A code written out settles a sign that allows it (`$ … USD`), and
    Japanese writing settles `¥`.
    """
    marks = list(dict.fromkeys(match.group() for match in _CURRENCY.finditer(text)))
    codes = [mark for mark in marks if mark in CURRENCY_CODES]
    certain = codes + [CURRENCY_SIGNS[mark][0] for mark in marks if len(CURRENCY_SIGNS.get(mark, ())) == 1]
    if "¥" in marks and _KANA.search(text):
        certain.append("JPY")
    open_readings = [
        code
        for mark in marks
        if not set(CURRENCY_SIGNS.get(mark, ())) & set(certain)
        for code in CURRENCY_SIGNS.get(mark, ())
    ]
    return list(dict.fromkeys(certain + open_readings))


def _is_percentage(text: str, end: int) -> bool:
    return re.match(rf"[{_SPACE}]?%", text[end:]) is not None


def _beside_currency(text: str, start: int, end: int) -> bool:
    before = re.search(rf"(?:{_CURRENCY.pattern})[{_SPACE}]?$", text[max(0, start - 5) : start])
    after = re.match(rf"[{_SPACE}]?(?:{_CURRENCY.pattern})", text[end:])
    return before is not None or after is not None

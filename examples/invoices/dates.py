"""Dates as people write them: 14 March 2026, 28.02.2026, 15 mars 2026, 2026年3月31日, 03/04/2026 (two dates)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

_MONTHS: dict[str, int] = {}
for _number, _names in enumerate(
    (
        "january jan januar jänner janvier janv",
        "february feb februar février fevrier févr",
        "march mar märz maerz mrz mars",
        "april apr avril avr",
        "may mai",
        "june jun juni juin",
        "july jul juli juillet juil",
        "august aug août aout",
        "september sep sept septembre",
        "october oct oktober okt octobre",
        "november nov novembre",
        "december dec dezember dez décembre decembre déc",
    ),
    start=1,
):
    for _name in _names.split():
        _MONTHS[_name] = _number

_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_YEAR = r"(?P<y>\d{4}|\d{2})"
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (form, re.compile(rf"(?<![\w.,/-])(?:{pattern})(?![\w/]|[.-]\d)", re.IGNORECASE))
    for form, pattern in (
        ("year first", r"(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)"),
        ("year first", r"(?P<y>\d{4})/(?P<m>\d\d?)/(?P<d>\d\d?)"),
        ("year first", r"(?P<y>\d{4})\s?年\s?(?P<m>\d\d?)\s?月\s?(?P<d>\d\d?)\s?日"),
        ("dotted", rf"(?P<d>\d\d?)\.\s?(?P<m>\d\d?)\.\s?{_YEAR}"),
        ("slashed", rf"(?P<d>\d\d?)/(?P<m>\d\d?)/{_YEAR}"),
        ("named", rf"(?P<d>\d\d?)(?:st|nd|rd|th|er|\.)?[ -](?:of )?(?P<m>{_MONTH})\.?,?[ -]{_YEAR}"),
        ("named", rf"(?P<m>{_MONTH})\.? (?P<d>\d\d?)(?:st|nd|rd|th)?,? {_YEAR}"),
    )
)

_DAYS = re.compile(
    r"\bnet(?:to)?\s?(?P<a>\d{1,3})\b(?![.,]\d)|\b(?P<b>\d{1,3})\s*(?:days|tagen?|jours|dagar)\b",
    re.IGNORECASE,
)
_PAYMENT = re.compile(
    r"\b(?:net|netto|payable|payment|terms|within|due|zahlbar|zahlung\w*|innerhalb|binnen|règlement|paiement|payable|sous"
    r"|betalning\w*)\b",
    re.IGNORECASE,
)
_DUE = re.compile(
    r"\bdue\b|\bpay(?:able|ment)?\b[^.]{0,20}\b(?:by|before)\b|\b(?:settle|paid|pay|transfer)\b.{0,40}\bby\b"
    r"|on or before|fällig|zahlbar bis|bis (?:zum|spätestens)|überweisen .{0,40}bis"
    r"|échéance|avant le|支払期限|förfallodatum|vencimiento|scadenza",
    re.IGNORECASE | re.DOTALL,
)
_ISSUED = re.compile(
    r"\b(?:invoice date|date|dated|issued|datum|rechnungsdatum|vom|fakturadatum|le)\b|発行日", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DateFound:
    """A date in a text. `readings` has two entries when day and month may be meant either way round."""

    written: str
    readings: tuple[date, ...]
    start: int
    end: int


def find_dates(text: str) -> list[DateFound]:
    """Return every date in reading order.

    03/04/2026 has two readings, unless another slashed date of the same text (17/02/2026) tells the order.
    """
    order = _slash_order(text)
    found: list[DateFound] = []
    for form, pattern in _FORMS:
        for match in pattern.finditer(text):
            if any(match.start() < other.end and other.start < match.end() for other in found):
                continue
            readings = _read(form, match, order)
            if readings:
                found.append(DateFound(written=match.group(), readings=readings, start=match.start(), end=match.end()))
    return sorted(found, key=lambda one: one.start)


def parse_date(written: str) -> tuple[date, ...]:
    """Return the readings of one date: none when it is no date, two when it is ambiguous."""
    found = find_dates(written.strip())
    return found[0].readings if found and found[0].written == written.strip() else ()


def blank_dates(text: str) -> str:
    """Return the text with every date blanked out, all positions kept."""
    for found in find_dates(text):
        text = text[: found.start] + " " * (found.end - found.start) + text[found.end :]
    return text


def due_dates(text: str) -> list[DateFound]:
    """Return the dates that the words before them call due (in the sentence, at most 60 characters back)."""
    return [found for found in find_dates(text) if _DUE.search(_words_before(text, found, 60))]


def issue_dates(text: str) -> list[DateFound]:
    """Return the dates on which the letter may have been written: labelled ones, else those not called due."""
    due = due_dates(text)
    others = [found for found in find_dates(text) if found not in due]
    labelled = [found for found in others if _ISSUED.search(_words_before(text, found, 25))]
    return labelled or others


def derived_due_date(text: str) -> date | None:
    """Work out the due date from terms such as "30 days net"; None when terms or date of issue are not certain."""
    days = {
        int(match.group("a") or match.group("b"))
        for match in _DAYS.finditer(text)
        if _PAYMENT.search(text[max(0, match.start() - 40) : match.end() + 20])
    }
    issued = {reading for found in issue_dates(text)[:1] for reading in found.readings}
    if len(days) != 1 or len(issued) != 1:
        return None
    return issued.pop() + timedelta(days=days.pop())


def _words_before(text: str, found: DateFound, reach: int) -> str:
    """The words that introduce a date: back to the end of the sentence, the cell or the date before it."""
    before = text[max(0, found.start - reach) : found.start]
    earlier = find_dates(before)
    if earlier:
        before = before[earlier[-1].end :]
    return re.split(r"[.;!?]\s|\n\s*\n|\n(?=\S+:)", before)[-1]


def _slash_order(text: str) -> str | None:
    """Tell whether this text writes day/month or month/day; None when its dates leave that open or disagree."""
    orders = set()
    for form, pattern in _FORMS:
        if form == "slashed":
            for match in pattern.finditer(text):
                first, second = int(match["d"]), int(match["m"])
                if first > 12 >= second:
                    orders.add("day first")
                elif second > 12 >= first:
                    orders.add("month first")
    return orders.pop() if len(orders) == 1 else None


def _read(form: str, match: re.Match[str], order: str | None) -> tuple[date, ...]:
    year = int(match["y"]) if len(match["y"]) == 4 else 2000 + int(match["y"])
    day = int(match["d"])
    if form == "named":
        return _valid((year, _MONTHS[match["m"].lower()], day))
    month = int(match["m"])
    if form != "slashed":
        return _valid((year, month, day))
    if order == "day first":
        return _valid((year, month, day))
    if order == "month first":
        return _valid((year, day, month))
    return _valid((year, month, day), (year, day, month))


def _valid(*candidates: tuple[int, int, int]) -> tuple[date, ...]:
    readings: list[date] = []
    for year, month, day in candidates:
        try:
            reading = date(year, month, day)
        except ValueError:
            continue
        if reading not in readings:
            readings.append(reading)
    return tuple(readings)

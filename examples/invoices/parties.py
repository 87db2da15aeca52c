"""Who sends a letter and who receives it, as far as code can tell: names, letterheads, legal forms, mail domains."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dates import blank_dates
from money import find_amounts

# The short ones only as they are usually written: "as" and "co" are words, too.
_LEGAL_FORM = re.compile(
    r"\b(?:(?i:ltd|limited|llc|llp|inc|corp|plc|pvt\.? ltd|gmbh|ohg|sarl|sas|k\.k|s\.l|s\.p\.a|s\.r\.l)"
    r"|AG|KG|UG|SA|BV|NV|AB|AS|Oy|OY|Co|CO)\b\.?"
)
# Words that are never part of a sender's name, in the languages of the letters we expect.
_HEADING = re.compile(
    r"\b(?:invoice|credit note|reminder|quotation|rechnung|gutschrift|mahnung|angebot|facture|avoir|devis|faktura"
    r"|total|subtotal|sub-total|gesamtbetrag|zwischensumme|betrag|summe|amount|description|qty|menge|terms|date|datum"
    r"|dear|sehr geehrter?|guten tag|hello|hi|thanks?|cheers|regards|yours|wishes|grüßen|grüsse|remerciements"
    r"|all the best|payment|tax|mwst|gst|tva|igst)\b|請求|品名|支払",
    re.IGNORECASE,
)
_RECIPIENT = re.compile(
    r"^(?:to|for|bill(?:ed)? to|customer|buyer|client|attn|an|z\. ?hd\.|à l'attention de|till|an die|kunde)\b[: ]|御中",
    re.IGNORECASE,
)
_MAIL_HEADER = re.compile(r"^(?:from|to|cc|subject|date|reply-to):", re.IGNORECASE)
_SENDER_HEADER = re.compile(r"^from:\s*(?P<name>[^<]*)", re.IGNORECASE)
_MAIL_DOMAIN = re.compile(r"[\w.+-]+@(?P<domain>[\w-]+)\.[\w.-]+")
_FROM = re.compile(r"^.{0,40}\bfrom\s+(?P<name>\S.*)$", re.IGNORECASE)
_SMALL_WORDS = {"and", "of", "the", "de", "des", "du", "la", "le", "et", "und", "von", "der", "für", "&", "-"}
_SHORTEST_DISTINCTIVE_WORD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A name that stands in a letter, and why it may be the sender's (empty: nothing but its form says so)."""

    written: str
    evidence: tuple[str, ...]


def find_names(text: str) -> list[Name]:
    """Return what may be the sender's name, in reading order: lines that look like a name and address nobody."""
    letterhead = _letterhead(text)
    domains = _sender_domains(text)
    names: dict[str, Name] = {}
    for line in text.splitlines():
        for written in _names_in(line):
            evidence = []
            if written == letterhead:
                evidence.append("letterhead")
            if _LEGAL_FORM.search(written):
                evidence.append("legal form")
            if any(_belongs_to(written, domain) for domain in domains):
                evidence.append("mail domain")
            names.setdefault(written, Name(written=written, evidence=tuple(evidence)))
    return list(names.values())


def same_name(one: str, other: str) -> bool:
    """Compare names without case, punctuation and spacing."""
    return _squeeze(one) == _squeeze(other)


def stands_in(name: str, text: str) -> bool:
    """Tell whether the text contains the name, whatever case, punctuation and line breaks."""
    return bool(_squeeze(name)) and f" {_squeeze(name)} " in f" {_squeeze(text)} "


def _squeeze(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _names_in(line: str) -> list[str]:
    line = line.strip()
    if _RECIPIENT.search(line) or find_amounts(blank_dates(line)):
        return []
    sender = _SENDER_HEADER.match(line)
    if sender:
        cells = [sender["name"]]
    elif _MAIL_HEADER.match(line):
        cells = []
    else:
        cells = re.split(r"\s{2,}|\s·\s|\s\(", line)
    origin = _FROM.match(line)
    if origin and not sender:
        cells = [origin["name"]]
    return [name for cell in cells[:1] if (name := _as_name(cell)) is not None]


def _as_name(cell: str) -> str | None:
    """Trim a cell to the name in it; None when it is a sentence, a heading, an address or a figure."""
    name = re.split(r",\s+(?!(?:Inc|Ltd|LLC|Co)\b)", cell.strip())[0].strip(" ,;:-()")
    if not 3 <= len(name) <= 50 or re.search(r"\d|@", name) or _HEADING.search(name):
        return None
    if re.search(r"[.!?]$", name) and not _LEGAL_FORM.search(name.split()[-1]):
        return None
    words = name.split()
    if len(words) > 6 or any(word[:1].islower() and word.lower() not in _SMALL_WORDS for word in words):
        return None
    return name


def _letterhead(text: str) -> str | None:
    """The first line of the letter, when that is a name (a heading such as INVOICE may stand before it)."""
    for line in text.splitlines():
        if not line.strip() or _MAIL_HEADER.match(line) or (_HEADING.search(line) and not _names_in(line)):
            continue
        names = _names_in(line)
        return names[0] if names else None
    return None


def _sender_domains(text: str) -> list[str]:
    """The mail domains in the text, the recipient's left out."""
    return [
        match["domain"]
        for line in text.splitlines()
        if not re.match(r"(?:to|cc):", line.strip(), re.IGNORECASE)
        for match in _MAIL_DOMAIN.finditer(line)
    ]


def _belongs_to(name: str, domain: str) -> bool:
    letters = re.sub(r"\W|_", "", domain.casefold())
    words = [word for word in re.findall(r"\w+", name.casefold()) if len(word) >= _SHORTEST_DISTINCTIVE_WORD]
    # Two words of the name, or the only one, in the domain: "Tess" alone says nothing in tess@marlow-pianos.
    hits = sum(word in letters or word.rstrip("s") in letters for word in words)
    return bool(words) and hits >= min(2, len(words))

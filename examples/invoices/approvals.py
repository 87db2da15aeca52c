"""Who answers where code is in doubt: a person at the terminal, or a file of answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from checks import FIELDS, validate_invoice
from extraction import NO_DATE
from rich.console import Console, Group
from rich.panel import Panel
from rich.prompt import Prompt
from rich.table import Table
from rich.text import Text

from abstractruntime.models import JsonDict, JsonValue

_LABELS = {"vendor": "vendor", "total": "total", "currency": "currency", "due_date": "due date"}


class NoAnswer(Exception):
    """Nobody can answer this question; the message says for which letter, and what to do."""


class Approver(Protocol):
    """Answers the questions that the workflow's `ask` node parks with."""

    name: str

    def answer(self, question: JsonDict) -> JsonDict:
        """Return `{"choice", "values", "by"}`. `question`: file, letter, invoice and doubts. Raises `NoAnswer`."""
        ...


class AnswersFile:
    """Answers from a JSON file: for each letter what a careful person reads in it, or why it is rejected."""

    name = "answers file"

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            answers = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NoAnswer(f"the answers file {path} cannot be read: {error}") from error
        if not isinstance(answers, dict) or not all(isinstance(answer, dict) for answer in answers.values()):
            raise NoAnswer(f'{path} must hold an object: {{"letter.txt": {{"vendor": …}} or {{"reject": "why"}}}}')
        self._answers: Mapping[str, JsonDict] = answers

    def answer(self, question: JsonDict) -> JsonDict:
        file = str(question["file"])
        found = self._answers.get(file)
        if found is None:
            raise NoAnswer(f"{self._path} has no answer for {file}: add one, or answer at a terminal")
        if "reject" in found:
            return {"choice": "reject", "values": {}, "by": self.name}
        _, problems = validate_invoice(found)
        if problems:  # the workflow would ask again, and get the same answer
            reasons = "; ".join(f"{doubt.field}: {doubt.reason}" for doubt in problems)
            raise NoAnswer(f"{self._path} answers for {file} what cannot be paid: {reasons}")
        return _answer(found, cast("JsonDict", question["invoice"]), self.name)


class Person:
    """Asks at the terminal: shows the letter, what the model read, and the doubts; candidates are the defaults."""

    name = "a person"

    def __init__(self, console: Console) -> None:
        self._console = console

    def answer(self, question: JsonDict) -> JsonDict:
        invoice = cast("JsonDict", question["invoice"])
        doubts = cast("list[JsonDict]", question["doubts"])
        self._console.print(_shown(question, invoice, doubts))
        choice = Prompt.ask(
            "Pay as read, correct it, or reject the letter?",
            console=self._console,
            choices=["approve", "correct", "reject"],
            default=_likeliest(doubts),
        )
        if choice != "correct":
            return {"choice": choice, "values": {}, "by": self.name}
        return {"choice": "correct", "values": self._corrected(invoice, doubts), "by": self.name}

    def _corrected(self, invoice: JsonDict, doubts: list[JsonDict]) -> JsonDict:
        values: JsonDict = {}
        for field in FIELDS:
            candidates = _candidates(doubts, field)
            if len(candidates) > 1:
                self._console.print(Text(f"  in the letter: {', '.join(candidates)}", style="dim"))
            default = candidates[0] if candidates else _default(invoice, doubts, field)
            typed = Prompt.ask(f"  {_LABELS[field]}", console=self._console, default=default)
            values[field] = None if typed == NO_DATE else typed
        return values


def _answer(wanted: JsonDict, read: JsonDict, by: str) -> JsonDict:
    values: JsonDict = {field: wanted.get(field) for field in FIELDS}
    if all(values[field] == read.get(field) for field in FIELDS):
        return {"choice": "approve", "values": {}, "by": by}
    return {"choice": "correct", "values": values, "by": by}


def _likeliest(doubts: list[JsonDict]) -> str:
    if any(doubt["field"] == "kind" for doubt in doubts):
        return "reject"
    return "correct" if any(doubt["candidates"] for doubt in doubts) else "approve"


def _default(invoice: JsonDict, doubts: list[JsonDict], field: str) -> str:
    doubted = any(doubt["field"] == field for doubt in doubts)
    if field == "due_date" and (doubted or not invoice["due_date"]):
        return NO_DATE  # a date that the letter does not call due is worse than none
    return str(invoice[field] or "")


def _candidates(doubts: list[JsonDict], field: str) -> list[str]:
    found = [cast("list[JsonValue]", doubt["candidates"]) for doubt in doubts if doubt["field"] == field]
    return [str(candidate) for candidate in (found[0] if found else [])]


def _shown(question: JsonDict, invoice: JsonDict, doubts: list[JsonDict]) -> Group:
    table = Table.grid(padding=(0, 2))
    for field in FIELDS:
        reasons = "; ".join(str(doubt["reason"]) for doubt in doubts if doubt["field"] == field)
        value = Text(str(invoice.get(field) or "–"), style="bold" if not reasons else "bold yellow")
        table.add_row(_LABELS[field], value, Text(reasons, style="yellow"))
    for doubt in doubts:
        if doubt["field"] not in FIELDS:
            table.add_row(str(doubt["field"]), "", Text(str(doubt["reason"]), style="yellow"))
    letter = Panel(Text(str(question["letter"]).strip()), title=Text(str(question["file"])), title_align="left")
    return Group(letter, Text("The model read:"), table)

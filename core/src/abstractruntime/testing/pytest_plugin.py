"""What the kit adds to pytest: ``--store URL``, ``-k S-COMMIT-3``, and at the end the clauses that do not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_PROPERTY = "clause"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--store``."""
    group = parser.getgroup("abstractruntime")
    group.addoption(
        "--store",
        metavar="URL",
        help="the store to be proved by abstractruntime.testing.suite; its place must be one that may be written to",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """A clause can be chosen by its id, and its id stands in reports."""
    test = getattr(item, "function", None)
    clause_id = getattr(test, "clause_id", None)
    if clause_id is not None:
        item.extra_keyword_matches.add(clause_id)
        sentence = " ".join((getattr(test, "__doc__", None) or "").split())
        item.user_properties.append((_PROPERTY, f"{clause_id}: {sentence}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which clauses do not hold."""
    failed = [*terminalreporter.stats.get("failed", ()), *terminalreporter.stats.get("error", ())]
    broken = {
        str(value)
        for report in failed
        for name, value in getattr(report, "user_properties", ())
        if name == _PROPERTY
    }  # fmt: skip
    if broken:
        terminalreporter.section("clauses that do not hold")
        for line in sorted(broken):
            terminalreporter.line(line)

"""The options of the kit for pytest: ``--store URL`` for `abstractruntime.testing.suite`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--store``."""
    group = parser.getgroup("abstractruntime")
    group.addoption(
        "--store",
        metavar="URL",
        help="the store to be proved by abstractruntime.testing.suite; its place must be one that may be written to",
    )

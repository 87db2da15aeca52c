"""The settings that pages show are such that the plugin takes them."""

import re
import tomllib
from pathlib import Path

import pytest

from abstractruntime_abstractcore.options import ClientOptions

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "docs" / "how-to" / "call-an-llm.md", ROOT / "plugins" / "abstractcore" / "README.md"]


# A tree for testing installed wheels has the docs, and not the plugins' folders.
@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_the_settings_on_the_page_are_valid(page):
    (block,) = re.findall(r"^```toml\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    options = ClientOptions(**tomllib.loads(block)["plugin"]["abstractcore"])
    assert options.timeout_s == 120

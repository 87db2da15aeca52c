"""The page that shows how to call an LLM does what it says, from its first block to its last."""

import re
import tomllib
from pathlib import Path

import pytest

from abstractruntime_abstractcore.options import ClientOptions

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "call-an-llm.md"
README = Path(__file__).parents[3] / "plugins" / "abstractcore" / "README.md"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_the_python_blocks_run_one_after_the_other():
    names = {"__name__": "how_to"}
    for block in blocks(PAGE, "python"):
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks(PAGE, "python")) >= 5


def test_the_settings_are_such_that_the_plugin_takes_them():
    (block,) = blocks(PAGE, "toml")
    options = ClientOptions(**tomllib.loads(block)["plugin"]["abstractcore"])
    assert options.timeout_s == 120


@pytest.mark.skipif(not README.exists(), reason="an installed project has no README of the plugin")
def test_the_readme_shows_the_same_settings():
    assert blocks(README, "toml") == blocks(PAGE, "toml")

"""The README and docs/ hold: code runs and prints what the page says, links lead somewhere, commands exist.

What a fenced block means is said by its info string:

=============================  ====================================================================================
```` ```python ````            runs, in the order of the page, in one namespace, in an empty working folder
```` ```python file=a.py ````  is written to that file of the working folder first (any language)
```` ```text output ````       is what was printed since the last such block; ``…`` stands for anything
```` ```toml ````, ``json``    can be parsed
```` ```console ````, ``sh``   is not run; the ``make`` targets and the ``art`` commands and options in it exist
=============================  ====================================================================================
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAKEFILE = ROOT / "Makefile"

FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=indent)(?P=fence)`*[ ]*$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    language: str
    attributes: tuple[str, ...]
    text: str
    line: int

    @property
    def file(self) -> str | None:
        return next((word.removeprefix("file=") for word in self.attributes if word.startswith("file=")), None)


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        language, *attributes = match["info"].split() or [""]
        indent = len(match["indent"])
        body = "".join(line[indent:] for line in match["body"].splitlines(keepends=True))
        found.append(Block(language, tuple(attributes), body, text.count("\n", 0, match.start("body")) + 1))
    return found


def without_blocks(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=named)


# -- code --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, as a reader has it who copies from a page: its modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@every_page
def test_code_runs_and_prints_what_the_page_says(page: Path, working_folder: Path):
    namespace: dict[str, object] = {"__name__": "page"}
    printed = io.StringIO()
    for block in blocks_of(page):
        if block.file is not None:
            file = working_folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
        elif block.language == "python":
            # As many lines before it as the page has, so that a traceback names the page's line.
            code = compile("\n" * (block.line - 1) + block.text, named(page), "exec", dont_inherit=True)
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
        elif "output" in block.attributes:
            wanted = ".+?".join(map(re.escape, block.text.strip().split("…")))
            said = printed.getvalue().strip()
            assert re.fullmatch(wanted, said), f"{named(page)}:{block.line} says otherwise; it printed:\n{said}"
            printed = io.StringIO()


@every_page
def test_every_block_says_what_it_is(page: Path):
    known = {"python", "toml", "json", "text", "console", "sh", "mermaid"}
    assert {block.language for block in blocks_of(page)} <= known


@every_page
def test_toml_and_json_can_be_parsed(page: Path):
    for block in blocks_of(page):
        if block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)


# -- links -------------------------------------------------------------------------------------------------------------


@cache
def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as code forges make them."""
    anchors: set[str] = set()
    for match in HEADING.finditer(without_blocks(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in anchors:
            number += 1
        anchors.add(anchor)
    return anchors


@every_page
def test_links_lead_somewhere(page: Path):
    broken = []
    for match in LINK.finditer(without_blocks(page)):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"\w+:", target):
            continue
        there = (page.parent / target).resolve() if target else page
        top = ROOT / there.relative_to(ROOT).parts[0]
        if top.name in ("core", "plugins") and not top.exists():
            continue  # an installed project has no sources
        if not there.exists() or (anchor and (there.suffix != ".md" or anchor not in anchors_of(there))):
            broken.append(match["target"])
    assert not broken


def test_every_page_can_be_reached_from_the_readme():
    reached = {ROOT / "README.md"}
    queue = list(reached)
    while queue:
        page = queue.pop()
        for match in LINK.finditer(without_blocks(page)):
            there = (page.parent / match["target"].partition("#")[0]).resolve()
            if there.suffix == ".md" and there.exists() and there not in reached:
                reached.add(there)
                queue.append(there)
    assert set(PAGES) - reached == set()


def test_the_readme_is_short_and_begins_with_the_two_commands():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    first_screen = "\n".join(lines[:40])
    assert "make demo" in first_screen
    assert "make test" in first_screen


# -- commands ----------------------------------------------------------------------------------------------------------


def commands_of(page: Path, program: str) -> list[list[str]]:
    """Every command of that program that the page shows, in a block or in its text, as words."""
    lines = [
        line.removeprefix("$ ").partition(" #")[0]
        for block in blocks_of(page)
        if block.language in ("console", "sh")
        for line in block.text.splitlines()
    ]
    lines += INLINE.findall(without_blocks(page))
    return [shlex.split(line) for line in lines if line.startswith(f"{program} ")]


@pytest.mark.skipif(not MAKEFILE.exists(), reason="an installed project has no Makefile")
@every_page
def test_make_targets_exist(page: Path):
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE.read_text(), re.MULTILINE))
    shown = {word for words in commands_of(page, "make") for word in words[1:] if re.fullmatch("[a-z]+", word)}
    assert shown <= targets


@every_page
def test_art_commands_and_options_exist(page: Path):
    shown = commands_of(page, "art")
    if not shown:
        return
    typer = pytest.importorskip("typer")
    program = pytest.importorskip("abstractruntime_cli.app")
    commands = typer.main.get_command(program.app).commands
    for _, name, *words in shown:
        if name.startswith("-") or name.isupper():  # `art COMMAND --help`
            continue
        assert name in commands, f"there is no `art {name}`"
        options = {option for parameter in commands[name].params for option in parameter.opts} | {"--help", "-h"}
        used = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        assert used <= options, f"`art {name}` has no {', '.join(sorted(used - options))}"

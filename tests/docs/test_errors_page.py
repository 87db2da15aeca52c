"""docs/reference/errors.md: a paragraph for each class of `abstractruntime.errors`, and none for anything else."""

import re
from pathlib import Path

import pytest

from abstractruntime import errors

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
HEADING = re.compile(r"^### `(?P<code>\w+)` · (?P<name>\w+)(?: \((?P<built_in>\w+)\))?$", re.MULTILINE)

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.AbstractRuntimeError)
}


def sections() -> dict[str, tuple[re.Match[str], str]]:
    """Each third-level section by its class name: the heading, and the text below it."""
    text = PAGE.read_text()
    found = list(HEADING.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return {match["name"]: (match, text[match.end() : end]) for match, end in zip(found, ends, strict=True)}


def test_every_class_has_its_paragraph_and_nothing_else_has_one():
    assert sorted(sections()) == sorted(CLASSES)
    assert len(re.findall(r"^### ", PAGE.read_text(), re.MULTILINE)) == len(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_a_paragraph_stands_under_the_code_of_its_class_and_says_something(name: str):
    heading, text = sections()[name]
    assert heading["code"] == CLASSES[name].code
    assert len(text.split("\n## ")[0].split()) >= 10


@pytest.mark.parametrize("name", CLASSES)
def test_the_built_in_of_a_heading_is_the_one_that_the_class_adds(name: str):
    kind = CLASSES[name]
    added = [base for base in kind.__bases__ if not issubclass(base, errors.AbstractRuntimeError)]
    shown = sections()[name][0]["built_in"]
    assert [shown] == [base.__name__ for base in added if base is not Exception] or (
        shown is None and added in ([], [Exception])
    )


def test_codes_are_unique():
    codes = [kind.code for kind in CLASSES.values()]
    assert sorted(codes) == sorted(set(codes))


def test_the_hierarchy_at_the_top_of_the_module_names_every_class_under_its_parent():
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        branch = re.match(r"    ([│ ]*)[├└]── (.+)", line)
        if branch is None:
            continue
        depth = len(branch[1]) // 4
        names = re.findall(r"\b[A-Z]\w+", re.sub(r" \.\.\..*| \(\w+\)", "", branch[2]))
        for name in names:
            drawn[name] = path[depth - 1] if depth else "AbstractRuntimeError"
        path[depth:] = [names[-1]]
    parents = {
        name: next(base.__name__ for base in kind.__bases__ if issubclass(base, errors.AbstractRuntimeError))
        for name, kind in CLASSES.items()
        if kind is not errors.AbstractRuntimeError
    }
    assert drawn == parents

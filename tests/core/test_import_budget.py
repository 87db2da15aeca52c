"""What importing costs, counted in modules: time differs from machine to machine, the list of modules does not."""

import json
import subprocess
import sys

import pytest

DRIVERS = {
    "abstractruntime_abstractcore": {"httpx", "pydantic"},
    "abstractruntime_cli": {"rich", "typer"},
    "abstractruntime_sqlite": {"pydantic", "sqlite3"},
}


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded for the sake of a statement."""
    script = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        "sys.stdout.write(json.dumps(sorted(set(sys.modules) - before)))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(run.stdout))


def test_importing_the_package_imports_nothing_else():
    assert modules_after("import abstractruntime") == {"abstractruntime"}


def test_a_value_of_the_vocabulary_is_had_without_any_library():
    loaded = {name.partition(".")[0] for name in modules_after("from abstractruntime import Effect, StepPlan")}
    assert not loaded & {"asyncio", "importlib_metadata", "msgspec", "pluggy", "pydantic", "pydantic_settings"}


def test_asking_for_one_name_does_not_load_the_parts_of_others():
    loaded = modules_after("from abstractruntime import RunState, RetryPolicy")
    assert not loaded & {f"abstractruntime.{part}" for part in ("engine", "integrations", "legacy", "runtime", "store")}


@pytest.mark.parametrize("plugin", DRIVERS)
def test_a_plugin_that_is_only_imported_does_not_load_its_driver(plugin):
    loaded = {name.partition(".")[0] for name in modules_after(f"import {plugin}")}
    assert plugin in loaded
    assert not loaded & DRIVERS[plugin]

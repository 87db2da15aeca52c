"""The names of 0.2: each old path resolves, and what does not resolve yet is listed here, name by name."""

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import abstractruntime
from abstractruntime.errors import PluginMissing

SEED_NAMES = json.loads(Path(__file__).with_name("seed_names.json").read_text(encoding="utf-8"))

_ARTIFACTS = {
    "Artifact",
    "ArtifactMetadata",
    "ArtifactStore",
    "FileArtifactStore",
    "InMemoryArtifactStore",
    "artifact_ref",
    "compute_artifact_id",
    "get_artifact_id",
    "is_artifact_ref",
    "resolve_artifact",
}
_FILES = {"JsonFileRunStore", "JsonlLedgerStore"}
_SCHEDULED = {"ScheduledRuntime", "create_scheduled_runtime"}
_SCHEDULER = {"Scheduler", "SchedulerStats"}
_SNAPSHOTS = {"InMemorySnapshotStore", "JsonSnapshotStore", "Snapshot", "SnapshotStore"}

# Parts that are still to be built. This list only ever shrinks.
NOT_YET = {
    "abstractruntime": _ARTIFACTS | _FILES | _SCHEDULED | _SCHEDULER | _SNAPSHOTS,
    "abstractruntime.integrations.abstractcore": {
        "AbstractCoreToolExecutor",
        "LocalAbstractCoreLLMClient",
        "create_hybrid_runtime",
        "create_local_file_runtime",
        "create_local_runtime",
    },
    "abstractruntime.integrations.abstractcore.factory": {
        "create_hybrid_runtime",
        "create_local_file_runtime",
        "create_local_runtime",
    },
    "abstractruntime.integrations.abstractcore.llm_client": {"LocalAbstractCoreLLMClient"},
    "abstractruntime.integrations.abstractcore.tool_executor": {"AbstractCoreToolExecutor"},
    "abstractruntime.scheduler": _SCHEDULED | _SCHEDULER,
    "abstractruntime.scheduler.convenience": _SCHEDULED,
    "abstractruntime.scheduler.scheduler": _SCHEDULER,
    "abstractruntime.storage": _FILES | _SNAPSHOTS,
    "abstractruntime.storage.artifacts": _ARTIFACTS | {"validate_artifact_id"},
    "abstractruntime.storage.json_files": _FILES,
    "abstractruntime.storage.snapshots": _SNAPSHOTS,
}


@pytest.fixture
def fresh_paths(monkeypatch):
    """Old modules as a process finds them that has not asked them for anything yet."""
    for name in list(sys.modules):
        if name in SEED_NAMES and type(sys.modules[name]).__name__ == "OldModule":
            monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def without_file_plugin(monkeypatch):
    """A process in whose environment the file plugin is not installed."""

    class Absent:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.partition(".")[0] == "abstractruntime_file":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    monkeypatch.delitem(vars(abstractruntime), "JsonFileRunStore", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "abstractruntime_file"]:
        monkeypatch.delitem(sys.modules, name)


def found(module, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError:
            return None


@pytest.mark.parametrize("module", SEED_NAMES)
def test_every_module_of_0_2_can_be_imported(module):
    assert importlib.import_module(module).__name__ == module


@pytest.mark.parametrize("module", SEED_NAMES)
def test_every_name_of_0_2_resolves_but_for_those_listed_as_not_yet_there(module):
    missing = {name for name in SEED_NAMES[module] if found(module, name) is None}
    assert missing == NOT_YET.get(module, set())


def test_the_list_of_missing_names_speaks_of_names_of_0_2_only():
    strangers = {module: names - set(SEED_NAMES[module]) for module, names in NOT_YET.items()}
    assert {module: names for module, names in strangers.items() if names} == {}


@pytest.mark.parametrize("module", [module for module in SEED_NAMES if module != "abstractruntime"])
def test_a_name_means_the_same_under_its_old_path_and_its_public_one(module):
    shared = set(SEED_NAMES[module]) & set(abstractruntime.__all__)
    assert [name for name in shared if found(module, name) is not getattr(abstractruntime, name)] == []


def test_an_old_path_tells_once_where_the_name_is_now(fresh_paths):
    with pytest.warns(DeprecationWarning, match="from abstractruntime import StepPlan") as told:
        from abstractruntime.core.models import StepPlan
    from abstractruntime.core.models import StepPlan as Again

    assert StepPlan is Again is abstractruntime.StepPlan
    assert [warning.filename for warning in told] == [__file__]


def test_importing_an_old_module_alone_is_silent(fresh_paths):
    module = importlib.import_module("abstractruntime.storage.in_memory")
    assert set(SEED_NAMES["abstractruntime.storage.in_memory"]) <= set(dir(module))


def test_old_packages_lead_to_their_modules(fresh_paths):
    with pytest.warns(DeprecationWarning, match="from abstractruntime.vars import get_context"):
        get_context = abstractruntime.core.vars.get_context
    assert get_context is abstractruntime.vars.get_context


def test_a_star_import_of_an_old_module_brings_what_there_is(fresh_paths):
    names = {}
    with pytest.warns(DeprecationWarning, match="moved"):
        exec("from abstractruntime.storage import *", names)
    expected = set(SEED_NAMES["abstractruntime.storage"]) - NOT_YET["abstractruntime.storage"]
    assert expected <= set(names)
    assert not NOT_YET["abstractruntime.storage"] & set(names)


@pytest.mark.parametrize("module", ["abstractruntime", "abstractruntime.storage.json_files"])
def test_a_name_of_a_plugin_that_is_missing_names_the_distribution(module, fresh_paths, without_file_plugin):
    with pytest.raises(ImportError, match="JsonFileRunStore is provided by abstractruntime-file") as caught:
        exec(f"from {module} import JsonFileRunStore")
    assert isinstance(caught.value, PluginMissing)
    assert caught.value.hint == "pip install abstractruntime-file"
    assert caught.value.distribution == "abstractruntime-file"


def test_a_name_of_a_later_part_says_where_it_will_be():
    with pytest.raises(ImportError, match=r"Snapshot is not part of this version; its place is abstractruntime.snapsh"):
        _ = abstractruntime.Snapshot


def test_what_was_never_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'abstractruntime' has no attribute 'Snapshoot'"):
        _ = abstractruntime.Snapshoot
    assert not hasattr(importlib.import_module("abstractruntime.core.models"), "Snapshoot")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("abstractruntime.core.nowhere")


def test_a_real_module_goes_before_the_table():
    assert importlib.import_module("abstractruntime.identity").__spec__.origin.endswith("__init__.py")


def test_each_public_name_resolves_and_is_shown():
    assert [name for name in abstractruntime.__all__ if not hasattr(abstractruntime, name)] == []
    assert set(abstractruntime.__all__) <= set(dir(abstractruntime))
    assert set(SEED_NAMES["abstractruntime"]) <= set(dir(abstractruntime))


def test_the_version_is_that_of_the_distribution():
    assert abstractruntime.__version__ == importlib.metadata.version("abstractruntime")


def test_a_place_that_cannot_be_imported_for_another_reason_says_that_reason(tmp_path):
    broken = tmp_path / "abstractruntime_file"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    (broken / "pair.py").write_text("import a_driver_that_is_missing\n")
    script = "from abstractruntime import JsonFileRunStore"
    environment = {"PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, env=environment)
    assert run.returncode != 0
    assert "No module named 'a_driver_that_is_missing'" in run.stderr.splitlines()[-1]

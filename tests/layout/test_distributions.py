"""One word per backend: folder, entry point, distribution and import say the same; all distributions move together."""

import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core"
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
DISTRIBUTIONS = [CORE, *PLUGINS]


def project(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def package(folder: Path) -> Path:
    (found,) = (path for path in (folder / "src").iterdir() if path.name.isidentifier() and path.is_dir())
    return found


def dependencies(folder: Path) -> dict[str, str]:
    requirements = [Requirement(line) for line in project(folder)["dependencies"]]
    return {requirement.name: str(requirement.specifier) for requirement in requirements}


each_plugin = pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
each_distribution = pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)


def test_every_folder_below_plugins_is_a_plugin():
    folders = sorted(path for path in (ROOT / "plugins").iterdir() if path.is_dir())
    assert folders == PLUGINS != []


@each_plugin
def test_folder_entry_point_distribution_and_import_are_one_word(folder):
    word = folder.name
    assert project(folder)["name"] == f"abstractruntime-{word}"
    assert package(folder).name == f"abstractruntime_{word}"
    assert project(folder)["entry-points"] == {"abstractruntime": {word: f"abstractruntime_{word}"}}


@each_plugin
def test_a_plugin_requires_the_core_of_its_major_version(folder):
    assert dependencies(folder)["abstractruntime"] == "<2,>=1.0"


@each_plugin
def test_a_plugin_requires_no_other_plugin(folder):
    others = {project(other)["name"] for other in PLUGINS}
    assert not others & dependencies(folder).keys()


def test_the_core_requires_four_libraries_and_no_more():
    assert dependencies(CORE).keys() == {"importlib-metadata", "msgspec", "pluggy", "pydantic-settings"}


def test_the_memory_store_is_found_like_any_other():
    assert project(CORE)["entry-points"]["abstractruntime"] == {"memory": "abstractruntime.store.memory"}


def test_each_plugin_is_an_extra_of_the_core_and_all_means_all():
    extras = project(CORE)["optional-dependencies"]
    words = [folder.name for folder in PLUGINS]
    assert extras.keys() == {*words, "testing", "all"}
    for word in words:
        assert extras[word] == [f"abstractruntime-{word}>=1.0,<2"]
    assert extras["all"] == [f"abstractruntime[{','.join(sorted([*words, 'testing']))}]"]


@each_distribution
def test_all_distributions_have_one_version_and_the_environment_has_that_one(folder):
    assert project(folder)["version"] == project(CORE)["version"] == version(project(folder)["name"])


@each_distribution
def test_every_distribution_runs_on_the_same_interpreters(folder):
    assert project(folder)["requires-python"] == ">=3.11"


@each_distribution
def test_every_distribution_has_types_readme_and_license(folder):
    assert (package(folder) / "py.typed").is_file()
    assert (folder / project(folder)["readme"]).read_text(encoding="utf-8").startswith(f"# {project(folder)['name']}\n")
    assert project(folder)["license"] == "MIT"
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_test_kit_is_part_of_the_core():
    assert (package(CORE) / "testing" / "__init__.py").is_file()


def test_the_environment_registers_the_entry_points_of_the_tree():
    declared = {
        word: value
        for folder in DISTRIBUTIONS
        for word, value in project(folder)["entry-points"]["abstractruntime"].items()
    }
    installed = {point.name: point.value for point in entry_points(group="abstractruntime")}
    assert declared.items() <= installed.items()


def test_the_root_configures_tools_and_is_no_distribution():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")).keys() == {"tool"}

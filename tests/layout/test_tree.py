"""What stands in the tree, and what must never stand in a file of it."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "core",
    "docs",
    "examples",
    "plugins",
    "pyproject.toml",
    "tests",
}
GENERATED = {
    ".git",
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
    "build",
    "dist",
}

# Put together here, so that this file does not hold what it forbids.
REGISTRIES = re.compile("|".join(re.escape(f"{host}.{end}") for host, end in [
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("pypi.python", "org"),
    ("npmjs", "org"),
    ("deb.debian", "org"),
    ("anaconda", "org"),
]))  # fmt: skip
SOMEBODYS_FOLDER = re.compile(r"(?<![\w.~$}-])/(?:home|opt|root|work|Users)/\w")


def files() -> list[Path]:
    """The files that are, or would be, under version control; in a copy without history, all that no tool made."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        paths = [ROOT / name for name in listed.split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not GENERATED & set(path.relative_to(ROOT).parts)]
    return sorted(path for path in paths if path.is_file())


FILES = files()


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]


def test_the_top_level_is_the_given_one():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} <= TOP_LEVEL


def test_there_is_no_lock_file():
    names = re.compile(r"(.*\.lock|.*-lock\.(json|ya?ml)|pylock\..*toml)$")
    assert [path for path in FILES if names.match(path.name)] == []


def test_no_file_names_the_host_of_a_package_registry():
    assert lines_with(REGISTRIES) == []


def test_no_file_names_a_folder_of_somebodys_machine():
    assert lines_with(SOMEBODYS_FOLDER) == []


@pytest.mark.parametrize("folder", ["home/ann", "opt/wheels", "root/x", "work/main", "Users/ann"])
def test_a_folder_of_somebodys_machine_is_known_by_its_absolute_path_only(folder):
    assert SOMEBODYS_FOLDER.search(f'"/{folder}"')
    assert SOMEBODYS_FOLDER.search(f"sqlite:////{folder}")
    assert not SOMEBODYS_FOLDER.search(f"https://example.com/{folder}")
    assert not SOMEBODYS_FOLDER.search(f"~/{folder} and ./{folder}")

"""What a built wheel carries: all of its package, its types, its license, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / "core", *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def built(request, tmp_path_factory) -> tuple[Path, list[str]]:
    """A distribution's folder and the names in its wheel, which is built from its sdist as an index would have it."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, request.param]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return request.param, archive.namelist()


def test_a_wheel_carries_every_file_of_its_package_and_no_other(built):
    folder, names = built
    source = folder / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == files
    assert any(name.endswith("/py.typed") for name in files)


def test_a_wheel_carries_its_license_and_its_entry_points(built):
    _, names = built
    ends = {name.partition(".dist-info/")[2] for name in names}
    assert {"licenses/LICENSE", "entry_points.txt", "METADATA"} <= ends

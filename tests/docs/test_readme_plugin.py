"""The plugin that the README shows in three files works as it stands there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()

PROGRAM = """
import abstractruntime as ar

def call(run, ctx):
    effect = ar.Effect("shout", {"text": "hello"}, result_key="said")
    return ar.StepPlan(node_id="call", effect=effect, next_node="end")

def end(run, ctx):
    return ar.StepPlan(node_id="end", complete_output={"said": run.vars["said"]})

flow = ar.WorkflowSpec(workflow_id="flow", entry_node="call", nodes={"call": call, "end": end})
with ar.open_runtime("memory:", workflows=[flow]) as rt:
    print(rt.tick(run_id=rt.start(workflow=flow)).output)
"""


def test_three_files_make_a_plugin(tmp_path: Path):
    files = dict(re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
    assert len(files) == 3
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    install(tmp_path, tomllib.loads(files["pyproject.toml"])["project"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("{'said': 'HELLO'}\n", "")


def install(folder: Path, project: dict) -> None:
    """What an installer makes of the project table: metadata and entry points beside the package."""
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n{word} = {place}"
        for group, points in project["entry-points"].items()
        for word, place in points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

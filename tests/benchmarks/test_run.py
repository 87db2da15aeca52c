"""The benchmark itself: it runs, and says what it has measured."""

import json
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).with_name("run.py")


def bench(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), "--quick", "--rounds", "1", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_a_measurement_stands_beside_its_line_and_is_judged(tmp_path: Path):
    ended = bench(tmp_path, "--only", "chain of 1,000 steps, sqlite", "--json", "bench.json")
    assert ended.returncode == 0, ended.stderr
    written = json.loads((tmp_path / "bench.json").read_text())
    rows = {row["key"]: row for row in written["rows"]}
    assert set(rows) == {"chain-sqlite-1000", "kept-sqlite", "costly-sqlite"}
    for row in rows.values():
        assert row["title"] in ended.stdout
        assert [len(row["samples"]), len(row["line"])] == [1, 1]
        assert row["samples"][0]["wall_us"] > row["line"][0]["wall_us"] > 0
    judged = [verdict["asks"] for verdict in written["budget"]]
    assert len(judged) == 3
    assert all(asks in ended.stdout for asks in judged)
    assert {"date", "machine", "software"} <= set(written["about"])


def test_a_title_that_no_row_has_is_answered_with_those_there_are(tmp_path: Path):
    ended = bench(tmp_path, "--only", "chain of 100 miles")
    assert ended.returncode != 0
    assert "chain of 100 steps, memory" in ended.stderr

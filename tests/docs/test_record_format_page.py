"""docs/reference/record-format.md: its table of kinds is that of the code, and its verifier verifies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from abstractruntime import StepPlan, WorkflowSpec, open_runtime
from abstractruntime.journal import FOLDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "record-format.md").read_text()
VECTORS: dict[str, Any] = json.loads((ROOT / "tests" / "core" / "record_vectors.json").read_text())
LEDGERS: dict[str, Any] = VECTORS["ledgers"]
COMMON = {"v", "run", "seq", "prev", "kind", "at", "values", "ops", "refs", "message", "by"}

each_ledger = pytest.mark.parametrize("name", LEDGERS)
each_erased = pytest.mark.parametrize("name", VECTORS["erased"])


def records_of(name: str) -> list[bytes]:
    return [f"{record['header']}\n{record['rest']}\n".encode() for record in LEDGERS[name]["records"]]


def erased_records(name: str) -> list[bytes]:
    erased = VECTORS["erased"][name]
    return [
        f"{record['header']}\n{erased['rest'].get(str(seq), record['rest'])}\n".encode()
        for seq, record in enumerate(LEDGERS[erased["of"]]["records"], 1)
    ]


# -- the table of kinds ------------------------------------------------------------------------------------------------


def page_kinds() -> dict[str, tuple[set[str], set[str]]]:
    """Each kind of the page's table: the fields that are always there, and all its fields."""
    kinds = {}
    for row in re.findall(r"^\|( `\w+`.*)\|$", PAGE.split("## Kinds")[1].split("\n## ")[0], re.MULTILINE):
        names, _, fields, _ = row.split("|")
        always = set(re.findall(r"\*\*`(\w+)`\*\*", fields))
        for kind in re.findall(r"`(\w+)`", names):
            kinds[kind] = (always, set(re.findall(r"`(\w+)`", fields)))
    return kinds


def vector_headers() -> list[dict[str, Any]]:
    known = [ledger for name, ledger in LEDGERS.items() if name != "unknown fields"]
    return [json.loads(record["header"]) for ledger in known for record in ledger["records"]]


def test_the_kinds_of_the_page_are_the_kinds_of_the_code():
    assert sorted(page_kinds()) == sorted(FOLDS)


@pytest.mark.parametrize("kind", FOLDS)
def test_the_vectors_show_each_kind_with_the_fields_that_the_page_gives_it(kind: str):
    always, fields = page_kinds()[kind]
    shown = [set(header) - COMMON for header in vector_headers() if header["kind"] == kind]
    assert shown
    assert all(always <= some <= fields for some in shown)
    assert set().union(*shown) == fields


# -- the verifier of the page ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verify():
    """The function `verify` that stands in the page."""
    namespace: dict[str, Any] = {}
    code = PAGE.split("```python file=verify_ledger.py\n")[1].split("```")[0]
    exec(compile(code, "record-format.md", "exec"), namespace)
    return namespace["verify"]


def test_the_verifier_of_the_page_is_short_and_needs_json_and_hashlib_only():
    code = PAGE.split("```python file=verify_ledger.py\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 25
    assert set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE)) == {"json", "hashlib"}


@each_ledger
def test_the_verifier_of_the_page_accepts_the_vectors(name: str, verify):
    assert verify(b"".join(records_of(name))) == LEDGERS[name]["records"][-1]["record_hash"]


@each_erased
def test_the_verifier_of_the_page_accepts_erased_values(name: str, verify):
    verify(b"".join(erased_records(name)))


def test_the_verifier_of_the_page_notices_every_changed_byte(verify):
    ledger = b"".join(records_of("fork"))
    for place in range(len(ledger)):
        changed = ledger[:place] + bytes([ledger[place] ^ 1]) + ledger[place + 1 :]
        with pytest.raises(Exception):  # noqa: B017, PT011 (a changed byte may break anything)
            verify(changed)


def test_the_verifier_of_the_page_notices_a_record_taken_out(verify):
    records = records_of("life")
    for place in range(len(records) - 1):
        with pytest.raises(AssertionError):
            verify(b"".join(records[:place] + records[place + 1 :]))


def test_the_verifier_of_the_page_accepts_the_ledger_of_a_real_run(verify, tmp_path, monkeypatch):
    pytest.importorskip("abstractruntime_sqlite")
    monkeypatch.chdir(tmp_path)
    node = {"greet": lambda run, ctx: StepPlan(node_id="greet", complete_output={"text": f"größe {run.vars['name']}"})}
    greeting = WorkflowSpec(workflow_id="greeting", entry_node="greet", nodes=node)
    with open_runtime("sqlite:///runs.db", workflows=[greeting]) as rt:
        run_id = rt.start(workflow=greeting, vars={"name": "Ada\u2028"})
        rt.tick(run_id=run_id)
        ledger = b"".join(rt.store.ledger(run_id))
        head = rt.get_ledger(run_id)[-1]["record_hash"]
    assert verify(ledger) == head
    with pytest.raises(AssertionError):
        verify(ledger.replace(b"Ada", b"Eve"))

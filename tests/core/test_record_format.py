"""The code reads and writes records as docs/reference/record-format.md says, held to it by the test vectors.

That the page says the same is proved by a reader written from it, in tests/docs/test_record_reader.py.
"""

from __future__ import annotations

import json
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from abstractruntime.codec import encode, open_record
from abstractruntime.codec.record import SALT_BYTES
from abstractruntime.errors import AbstractRuntimeError, FormatTooNew, LedgerCorrupt
from abstractruntime.journal import Folded, Journal, fold, fold_record

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "record_vectors.json").read_text())
LEDGERS: dict[str, Any] = VECTORS["ledgers"]

each_ledger = pytest.mark.parametrize("name", LEDGERS)
each_written = pytest.mark.parametrize(
    "name", [name for name, ledger in LEDGERS.items() if "write" in ledger["records"][0]]
)
each_erased = pytest.mark.parametrize("name", VECTORS["erased"])


def record_bytes(header: str, rest: str) -> bytes:
    return f"{header}\n{rest}\n".encode()


def records_of(name: str) -> list[bytes]:
    return [record_bytes(record["header"], record["rest"]) for record in LEDGERS[name]["records"]]


def erased_records(name: str) -> list[bytes]:
    erased = VECTORS["erased"][name]
    return [
        record_bytes(record["header"], erased["rest"].get(str(seq), record["rest"]))
        for seq, record in enumerate(LEDGERS[erased["of"]]["records"], 1)
    ]


def folded_states(run: str, records: list[bytes]) -> list[str]:
    state = Folded(run_id=run, workflow_id="")
    states = []
    for data in records:
        fold_record(state, open_record(data))
        states.append(encode(state).decode())
    return states


def numbered_salts():
    numbers = count()
    return lambda size: b"".join(bytes([next(numbers)]) * SALT_BYTES for _ in range(size // SALT_BYTES))


# -- the code and the vectors ------------------------------------------------------------------------------------------


@each_ledger
def test_the_hash_of_a_record_is_that_of_its_first_line(name: str):
    for record, data in zip(LEDGERS[name]["records"], records_of(name), strict=True):
        assert sha256(record["header"].encode()).hexdigest() == record["record_hash"]
        assert open_record(data).record_hash == record["record_hash"]


@each_ledger
def test_every_prefix_folds_to_the_state_of_the_vectors_byte_by_byte(name: str):
    wanted = [record["state"] for record in LEDGERS[name]["records"]]
    assert folded_states(LEDGERS[name]["run"], records_of(name)) == wanted


@each_written
def test_writing_the_same_with_the_same_salts_gives_the_same_bytes(name: str):
    journal = Journal(Folded(run_id=LEDGERS[name]["run"], workflow_id=""), numbered_salts())
    for record in LEDGERS[name]["records"]:
        write = json.loads(json.dumps(record["write"]))
        parts = {part: write[part] for part in ("values", "ops", "refs") if part in write}
        journal.write(write["kind"], write["at"], write.get("fields", {}), **parts)
    assert journal.pending == records_of(name)
    assert encode(journal.state).decode() == LEDGERS[name]["records"][-1]["state"]


@each_ledger
def test_a_header_is_canonical(name: str):
    for record in LEDGERS[name]["records"]:
        header = json.loads(record["header"], parse_float=pytest.fail)
        canonical = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert record["header"] == canonical


@each_erased
def test_an_erased_value_leaves_header_and_chain_as_they_were(name: str):
    records = erased_records(name)
    whole = records_of(VECTORS["erased"][name]["of"])
    assert records != whole
    assert [data.split(b"\n")[0] for data in records] == [data.split(b"\n")[0] for data in whole]
    assert [open_record(data).record_hash for data in records] == [open_record(data).record_hash for data in whole]


@each_erased
def test_an_erased_ledger_folds_to_the_state_of_the_vectors_byte_by_byte(name: str):
    states = folded_states("run-1", erased_records(name))
    wanted = VECTORS["erased"][name]["states"]
    assert {seq: states[int(seq) - 1] for seq in wanted} == wanted


@pytest.mark.parametrize("refused", VECTORS["refused"], ids=lambda refused: refused["why"])
def test_a_reader_refuses(refused: dict[str, Any]):
    state = Folded(run_id="run-1", workflow_id="")
    for place in refused["after"]:
        name, seq = place.split(":")
        fold_record(state, open_record(records_of(name)[int(seq) - 1]))
    with pytest.raises(AbstractRuntimeError) as caught:
        fold_record(state, open_record("".join(f"{line}\n" for line in refused["lines"]).encode()))
    assert caught.value.code == refused["code"]


def test_a_newer_format_and_an_unknown_kind_are_refused_by_name():
    lines = {refused["why"]: refused["lines"] for refused in VECTORS["refused"]}
    with pytest.raises(FormatTooNew, match="format 2"):
        open_record(record_bytes(*lines["a newer format"]))
    with pytest.raises(FormatTooNew, match="'painted'"):
        fold("run-1", [record_bytes(*lines["an unknown kind"])])


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_the_fold_of_the_ledger_whoever_looked_at_the_state_before():
    journal = Journal(Folded(run_id="run-1", workflow_id=""), numbered_salts())
    journal.follow(records_of("life")[:4])
    journal.payload()
    checkpoint = journal.checkpoint(1)
    assert checkpoint.state.decode() == LEDGERS["life"]["records"][3]["state"]


def test_a_checkpoint_record_names_length_size_and_digest():
    headers = [json.loads(record["header"]) for record in LEDGERS["life"]["records"]]
    named = next(header for header in headers if header["kind"] == "checkpoint")
    state = LEDGERS["life"]["records"][named["seq"] - 2]["state"].encode()
    assert (named["of"], named["size"], named["digest"]) == (named["seq"] - 1, len(state), sha256(state).hexdigest())


def test_damage_is_named_by_run_and_record():
    with pytest.raises(LedgerCorrupt) as caught:
        fold("run-1", [records_of("life")[0], records_of("life")[2]])
    assert (caught.value.run_id, caught.value.seq) == ("run-1", 2)

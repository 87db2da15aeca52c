"""docs/reference/record-format.md is complete: a reader written from it alone comes to the states of the vectors.

That the code comes to them too is proved in tests/core/test_record_format.py.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pytest

from abstractruntime import EffectSpec, Recovery, StepPlan, WorkflowSpec, open_runtime
from abstractruntime.codec import encode, open_record
from abstractruntime.effects import EffectOutcome
from abstractruntime.journal import FOLDS, Folded, fold_record
from abstractruntime.models import Effect

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


# -- a reader ----------------------------------------------------------------------------------------------------------


class Number(str):
    """A number in the bytes in which it is stored."""

    __slots__ = ()


def read_json(text: str) -> Any:
    return json.loads(text, parse_int=Number, parse_float=Number)


def json_text(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{json_text(key)}:{json_text(child)}" for key, child in value.items())
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(json_text, value))}]"
    return str(value) if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


class Reader:
    """A reader of format 1, from the page alone: `state` is the state's JSON text after the records read so far."""

    FIRST: ClassVar[dict[str, Any]] = {
        "workflow_version": "",
        "status": "running",
        "node": "",
        "vars": {},
        "output": None,
        "error": None,
    }
    FIRST |= {"waits": [], "decision": None, "step": 0, "attempts": 0, "visits": {}, "actor_id": None}
    FIRST |= {"session_id": None, "parent_run_id": None, "root_run_id": None, "queue": "default", "priority": 0}
    FIRST |= {"partition_key": None, "tags": [], "created_at": 0, "updated_at": 0, "since": 0, "format": 1}
    FIRST |= {"length": 0, "head_hash": ""}
    WAIT: ClassVar[dict[str, Any]] = {
        "until": None,
        "resume_to_node": None,
        "result_key": None,
        "prompt": None,
        "choices": None,
    }
    WAIT |= {"allow_free_text": True, "details": None, "parked": ""}
    DECISION: ClassVar[dict[str, Any]] = {
        "refs": [],
        "result_key": None,
        "next_node": None,
        "recovery": "ask",
        "costly": False,
    }
    DECISION |= {"timeout_us": 0, "at": 0, "key": None, "idle": False, "cleared": False}

    def __init__(self, run: str) -> None:
        self.at: dict[str, Any] = {"run_id": run, "workflow_id": "", **json.loads(json.dumps(self.FIRST))}

    @property
    def state(self) -> str:
        shown = {name: value for name, value in self.at.items() if value != self.FIRST.get(name, "")}
        if "waits" in shown:
            shown["waits"] = [self._shown(wait, self.WAIT) for wait in shown["waits"]]
        if "decision" in shown:
            shown["decision"] = self._shown(shown["decision"], self.DECISION)
        return json_text(shown)

    @staticmethod
    def _shown(value: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
        return {name: part for name, part in value.items() if name not in first or part != first[name]}

    def read(self, data: bytes) -> None:
        line, rest, _ = data.decode().split("\n")
        header, tail = json.loads(line), read_json(rest)
        state = self.at
        assert (header["run"], header["seq"], header["prev"]) == (
            state["run_id"],
            state["length"] + 1,
            state["head_hash"],
        )
        assert tail["record_hash"] == sha256(line.encode()).hexdigest()
        values = list(map(self._opened, header.get("values", []), tail.get("values", [])))
        payload = header.get("payload")
        self._fill(values, [ref for ref in header.get("refs", []) if ref[0] != payload])
        if "ops" in header and header["kind"] not in ("completed", "failed", "cancelled"):
            self._settle()
        for op in header.get("ops", []):
            self._operate(op, values)
        getattr(self, "on_" + header["kind"], lambda *_: None)(header, values)
        state |= {"length": header["seq"], "head_hash": tail["record_hash"], "updated_at": header["at"]}

    @staticmethod
    def _opened(described: list[Any], entry: list[Any] | None) -> Any:
        letter, length, digest = described
        if entry is None:
            marker = {"$erased": digest}
            return [dict(marker) for _ in range(length)] if letter == "a" else marker
        salt, value = entry
        assert sha256(bytes.fromhex(salt) + json_text(value).encode()).hexdigest() == digest
        return value

    # Deltas and references

    @staticmethod
    def _erased(node: Any) -> bool:
        return isinstance(node, dict) and list(node) == ["$erased"]

    def _look(self, path: list[Any]) -> tuple[Any, bool]:
        node = self.at["vars"]
        for part in path:
            if self._erased(node):
                return node, True
            node = node[part]
        return node, self._erased(node)

    def _operate(self, op: list[Any], values: list[Any]) -> None:
        code, (*parents, last) = op[0], op[1]
        there, erased = self._look(parents)
        if erased:
            return
        if code == "=":
            there[last] = values[op[2]]
        elif code == "-":
            del there[last]
        elif self._erased(there[last]):
            return
        elif code == "~":
            there[last][op[2] : op[2] + op[3]] = values[op[4]]
        elif isinstance(there[last], list):
            there[last] = there[last] + values[op[2]]
        else:
            there[last] = values[op[2]] if self._erased(values[op[2]]) else there[last] + values[op[2]]

    def _fill(self, values: list[Any], refs: list[list[Any]]) -> None:
        for value, where, source, *part in refs:
            *parents, last = [value, *where]
            holder: Any = values
            for step in parents:
                holder = None if self._erased(holder) else holder[step]
                if holder is None:
                    break
            if holder is None or self._erased(holder) or (not where and self._erased(values[value])):
                continue
            found, erased = self._look(source)
            found = json.loads(json.dumps(found)) if not isinstance(found, (dict, list)) else self._copy(found)
            if part:
                start, stop = part
                holder[last:last] = [self._copy(found) for _ in range(start, stop)] if erased else found[start:stop]
            else:
                holder[last] = found

    def _copy(self, value: Any) -> Any:
        return read_json(json_text(value))

    def _settle(self) -> None:
        decision = self.at["decision"]
        if decision and decision["refs"]:
            whole = [decision["payload"]]
            self._fill(whole, [[0, *ref[1:]] for ref in decision["refs"]])
            decision |= {"payload": whole[0], "refs": []}

    def _put(self, dotted: str | None, value: Any) -> None:
        if dotted is None:
            return
        *parents, last = dotted.split(".")
        node = self.at["vars"]
        for part in parents:
            if self._erased(node):
                return
            if not isinstance(node.get(part), dict):
                node[part] = {}
            node = node[part]
        if not self._erased(node):
            node[last] = value

    # What several kinds do

    def _visit(self, header: dict[str, Any]) -> None:
        state, node = self.at, header["node"]
        visits = {**state["visits"], node: state["visits"].get(node, 0) + 1}
        state |= {"node": node, "step": header["step"], "attempts": 0, "visits": visits}

    def _enter(self, status: str, at: int) -> None:
        if self.at["status"] != status:
            self.at |= {"status": status, "since": at}

    def _go_on(self, node: str | None, at: int) -> None:
        self.at |= {"attempts": 0, "waits": [], "node": node or self.at["node"]}
        self._enter("running", at)

    def _end(self, status: str, at: int) -> None:
        self.at |= {"decision": None, "waits": [], "attempts": 0}
        self._enter(status, at)

    @staticmethod
    def _as_text(value: Any) -> str:
        return value if isinstance(value, str) and not isinstance(value, Number) else json_text(value)

    # Kinds

    def on_created(self, header: dict[str, Any], values: list[Any]) -> None:
        registers = {"workflow_id": "workflow", "workflow_version": "version", "node": "node", "actor_id": "actor"}
        registers |= {"session_id": "session", "parent_run_id": "parent", "root_run_id": "root", "queue": "queue"}
        registers |= {"priority": "priority", "partition_key": "partition", "tags": "tags"}
        self.at |= {register: header[field] for register, field in registers.items() if field in header}
        self.at["root_run_id"] = header.get("root", header["run"])
        self.at |= {"created_at": header["at"], "since": header["at"]}

    def on_forked(self, header: dict[str, Any], values: list[Any]) -> None:
        own = {name: self.at[name] for name in ("run_id", "length", "head_hash")}
        whole = json.loads(json_text(values[header["state"]]))
        waits = [{"wait_id": "", "reason": "", "wait_key": "", **self.WAIT, **wait} for wait in whole.get("waits", [])]
        stored = values[header["state"]].get("vars", {})
        self.at |= {**self.FIRST, **whole, **own, "waits": waits, "vars": stored}
        self.at |= {"root_run_id": header.get("root", header["run"]), "parent_run_id": header.get("parent")}
        self.at |= {"created_at": header["at"], "since": header["at"]}

    def on_stepped(self, header: dict[str, Any], values: list[Any]) -> None:
        self._visit(header)
        self.at["node"] = header["next"]

    def on_decided(self, header: dict[str, Any], values: list[Any]) -> None:
        self._visit(header)
        payload = header.get("payload")
        decision = {name: header[name] for name in ("step", "node", "effect")}
        decision["payload"] = {} if payload is None else values[payload]
        decision["refs"] = [ref for ref in header.get("refs", []) if ref[0] == payload]
        decision |= {"result_key": header.get("result_key"), "next_node": header.get("next")}
        decision |= {"recovery": header["recovery"], "costly": header.get("costly", False)}
        decision |= {"timeout_us": header["timeout_us"], "at": header["at"], "key": header.get("key")}
        self.at["decision"] = {**decision, "idle": False, "cleared": False}

    def on_completed(self, header: dict[str, Any], values: list[Any]) -> None:
        decision, self.at["decision"] = self.at["decision"], None
        self._put(decision["result_key"], values[header["outcome"]])
        self._go_on(decision["next_node"], header["at"])

    def on_failed(self, header: dict[str, Any], values: list[Any]) -> None:
        if "node" in header:
            self._visit(header)
        else:
            self.at["node"] = self.at["decision"]["node"]
        self._end("failed", header["at"])
        error = values[header["error"]]
        message = error.get("message") if isinstance(error, dict) else None
        self.at["error"] = message if isinstance(message, str) else self._as_text(error)

    def on_interrupted(self, header: dict[str, Any], values: list[Any]) -> None:
        self.at["decision"]["idle"] = True
        self.at["attempts"] += 1

    def on_waiting(self, header: dict[str, Any], values: list[Any]) -> None:
        self._settle()
        decision, self.at["decision"] = self.at["decision"], None
        said = values[header["wait"]] if "wait" in header else decision["payload"]
        wait = {"wait_id": header["id"], "reason": header["reason"], "wait_key": header["wait_key"]}
        wait |= {"until": header.get("until"), "resume_to_node": header.get("next", decision["next_node"])}
        wait["result_key"] = header.get("result_key", decision["result_key"])
        prompt, choices, details = said.get("prompt"), said.get("choices"), said.get("details")
        wait["prompt"] = None if isinstance(prompt, Number) or not isinstance(prompt, str) else prompt
        wait["choices"] = [self._as_text(choice) for choice in choices] if isinstance(choices, list) else None
        free = said.get("allow_free_text", True)
        wait["allow_free_text"] = float(free) != 0 if isinstance(free, Number) else bool(free)
        wait |= {"details": details if isinstance(details, dict) else None, "parked": ""}
        self.at["waits"] = [wait]
        self._enter("waiting", header["at"])

    def on_parked(self, header: dict[str, Any], values: list[Any]) -> None:
        self.on_interrupted(header, values)
        wait = {"wait_id": header["id"], "reason": "job", "wait_key": header["wait_key"]} | self.WAIT
        self.at["waits"] = [wait | {"details": values[header["evidence"]], "parked": header["why"]}]
        self._enter("waiting", header["at"])

    def on_resumed(self, header: dict[str, Any], values: list[Any]) -> None:
        wait = next(wait for wait in self.at["waits"] if wait["wait_id"] == header["id"])
        self._put(wait["result_key"], values[header["answer"]])
        self._go_on(wait["resume_to_node"], header["at"])

    on_fired = on_resumed

    def on_reopened(self, header: dict[str, Any], values: list[Any]) -> None:
        known = not header.get("acting", False)
        self.at["decision"] |= {"at": header["at"], "idle": known, "cleared": known}
        self.at |= {"attempts": header["attempt"] - 1, "waits": []}
        self._enter("running", header["at"])

    def on_finished(self, header: dict[str, Any], values: list[Any]) -> None:
        self._visit(header)
        self._end("completed", header["at"])
        self.at["output"] = values[header["output"]]

    def on_cancelled(self, header: dict[str, Any], values: list[Any]) -> None:
        self._end("cancelled", header["at"])
        if "cause" in header:
            self.at["error"] = self._as_text(values[header["cause"]])

    def on_retried(self, header: dict[str, Any], values: list[Any]) -> None:
        self.at["error"] = None
        self._enter("running", header["at"])

    def on_edited(self, header: dict[str, Any], values: list[Any]) -> None:
        self.at["node"] = header.get("node", self.at["node"])
        if "status" in header:
            self._end(header["status"], header["at"])
        if "cause" in header:
            cause = values[header["cause"]]
            self.at["error"] = cause if isinstance(cause, str) and not isinstance(cause, Number) else None

    def on_migrated(self, header: dict[str, Any], values: list[Any]) -> None:
        self.at |= {"workflow_version": header["version"], "node": header.get("node", self.at["node"])}


@each_ledger
def test_a_reader_written_from_the_page_comes_to_the_same_states(name: str):
    reader = Reader(LEDGERS[name]["run"])
    for record, data in zip(LEDGERS[name]["records"], records_of(name), strict=True):
        reader.read(data)
        assert reader.state == record["state"]


@each_erased
def test_a_reader_written_from_the_page_comes_to_the_same_states_of_erased_ledgers(name: str):
    reader = Reader("run-1")
    for seq, data in enumerate(erased_records(name), 1):
        reader.read(data)
        wanted = VECTORS["erased"][name]["states"].get(str(seq))
        assert wanted in (None, reader.state)


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


@pytest.mark.parametrize("url", ["memory:", "sqlite:///runs.db"])
def test_the_verifier_and_the_reader_of_the_page_read_the_ledger_of_a_real_run(url: str, verify, tmp_path, monkeypatch):
    if url.startswith("sqlite"):
        pytest.importorskip("abstractruntime_sqlite")
    monkeypatch.chdir(tmp_path)
    with open_runtime(
        url, workflows=[CHAT], effect_handlers={"say": EffectSpec(handler=say, recovery=Recovery.READ)}
    ) as rt:
        run_id = rt.start(workflow=CHAT, vars={"chat": [], "system": "Be brief. " * 10}, actor_id="ann")
        for answer in ("one", "two", "größe\u2028"):
            state = rt.tick(run_id=run_id)
            rt.resume(run_id=run_id, wait_key=state.waiting.wait_key, payload=answer, max_steps=1)
        rt.update_limits(run_id, {"max_iterations": 7})
        rt.cancel_run(run_id, reason="enough")
        ledger = list(rt.store.ledger(run_id))
        head = rt.get_ledger(run_id)[-1]["record_hash"]
    assert verify(b"".join(ledger)) == head
    reader, state = Reader(run_id), Folded(run_id=run_id, workflow_id="")
    for data in ledger:
        reader.read(data)
        fold_record(state, open_record(data))
        assert reader.state == encode(state).decode()


def ask(run, ctx):
    run.vars["chat"].append({"role": "bot", "text": "What next?"})
    return StepPlan(node_id="ask", effect=Effect("ask_user", {"prompt": "next"}, "context.answer"), next_node="say")


def say_it(run, ctx):
    run.vars["chat"].append({"role": "user", "text": run.vars["context"]["answer"]})
    payload = {"messages": [{"role": "system", "text": run.vars["system"]}, *run.vars["chat"]]}
    return StepPlan(node_id="say", effect=Effect("say", payload, "said"), next_node="ask")


def say(run, effect, ctx):
    return EffectOutcome.completed(len(effect.payload["messages"]))


CHAT = WorkflowSpec(workflow_id="chat", entry_node="ask", nodes={"ask": ask, "say": say_it})

"""docs/reference/record-format.md is complete: a reader written from it alone comes to the states of the code.

Both read the test vectors, random ledgers, and the ledgers of real runs.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abstractruntime import EffectSpec, Recovery, StepPlan, WorkflowSpec, open_runtime
from abstractruntime.codec import draft_of, encode, open_record
from abstractruntime.codec.values import is_erased
from abstractruntime.effects import EffectOutcome
from abstractruntime.journal import Folded, Journal, fold, fold_record
from abstractruntime.models import Effect

ROOT = Path(__file__).parents[2]
VECTORS: dict[str, Any] = json.loads((ROOT / "tests" / "core" / "record_vectors.json").read_text())
LEDGERS: dict[str, Any] = VECTORS["ledgers"]

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


def assert_read_alike(run: str, records: list[bytes]) -> None:
    """The reader and the code come to the same state after each record, byte by byte."""
    reader, state = Reader(run), Folded(run_id=run, workflow_id="")
    for data in records:
        reader.read(data)
        fold_record(state, open_record(data))
        assert reader.state == encode(state).decode()


# -- the reader --------------------------------------------------------------------------------------------------------


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
        self.at |= {**self.FIRST, **whole, **own, "waits": waits, "vars": self.at["vars"]}
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
        self.at["attempts"] = header.get("attempt", self.at["attempts"] + 1)

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


# -- random ledgers ----------------------------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_code_and_reader_come_to_the_same_states_of_random_ledgers(random: Random):
    assert_read_alike("run", random_ledger(random))


@given(st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_code_and_reader_come_to_the_same_states_whatever_was_erased(random: Random):
    assert_read_alike("run", [with_some_erased(data, random) for data in random_ledger(random)])


@given(st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_any_values_of_any_ledger_may_be_erased(random: Random):
    """What is left is the tree that was there, with markers in place of what was erased."""
    records = random_ledger(random)
    whole = fold("run", records).vars
    for _ in range(4):
        left = fold("run", [with_some_erased(data, random) for data in records]).vars
        assert is_left_of(left, whole)


def random_ledger(random: Random) -> list[bytes]:
    """Steps that change and move parts of ``vars``, and effects whose payloads and results go through them."""
    journal = Journal(Folded(run_id="run", workflow_id=""), random.randbytes)
    journal.write_delta("created", 1, {"workflow": "w", "node": "n"}, {key: random_value(random, 0) for key in "abc"})
    for step in range(1, 13):
        draft = draft_of(journal.state.vars)
        for _ in range(random.randrange(1, 5)):
            change(random.choice(containers(draft)), draft, random)
        if random.random() < 0.6:
            journal.write_delta("stepped", 2, {"node": "n", "step": step, "next": "n"}, draft)
            continue
        fields = {"node": "n", "step": step, "effect": "e", "next": "n", "recovery": "read", "timeout_us": 1}
        payload = {"part": random.choice([*draft.values(), 1]), "own": random_value(random, 0)}
        key = random.choice(["a.b", "c", "d.e.f", "b"])
        journal.write_delta("decided", 2, {**fields, "result_key": key}, draft, payload=payload)
        between = draft_of(journal.state.vars)
        change(random.choice(containers(between)), between, random)
        journal.write_delta("limited", 2, {}, between)
        outcome = random_value(random, 0)
        journal.write_delta("completed", 2, {"step": step}, None, operands=[("outcome", outcome)])
    return journal.pending


def random_value(random: Random, depth: int) -> Any:
    kind = random.random()
    if depth > 2 or kind < 0.35:
        return random.choice([1, 2.5, None, True, "t", "x" * 70 + str(random.randrange(9))])
    if kind < 0.65:
        return {random.choice("abcdef"): random_value(random, depth + 1) for _ in range(random.randrange(4))}
    return [random_value(random, depth + 1) for _ in range(random.randrange(7))]


def containers(tree: Any) -> list[Any]:
    found = [tree] if isinstance(tree, (dict, list)) else []
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        found += containers(child)
    return found


def change(there: Any, root: Any, random: Random) -> None:
    """Change a container of the draft ``root`` in one of the ways that become different operations."""
    moved = random.choice(containers(root))
    new = moved if all(part is not there for part in containers(moved)) else random_value(random, 0)
    match isinstance(there, dict), random.randrange(4):
        case True, 0:
            there.pop(random.choice("abcdef"), None)
        case True, 1:
            for key, value in there.items():
                if isinstance(value, str) and len(value) > 64:
                    there[key] = value + "more"
        case True, _:
            there[random.choice("abcdefg")] = random.choice([new, random_value(random, 0)])
        case False, 0:
            del there[: random.randrange(1, 4)]
        case False, 1 if there:
            there[random.randrange(len(there))] = random_value(random, 0)
        case False, 2:
            there.insert(random.randrange(len(there) + 1), new)
        case _:
            there.append(random_value(random, 0))


def with_some_erased(data: bytes, random: Random) -> bytes:
    header, rest = data.decode().split("\n")[:2]
    tail = json.loads(rest)
    if "values" not in tail:
        return data
    tail["values"] = [None if random.random() < 0.25 else entry for entry in tail["values"]]
    return f"{header}\n{json.dumps(tail, separators=(',', ':'), ensure_ascii=False)}\n".encode()


def is_left_of(left: Any, whole: Any) -> bool:
    if is_erased(left):
        return True
    if isinstance(whole, dict):
        same_keys = isinstance(left, dict) and list(left) == list(whole)
        return same_keys and all(is_left_of(left[key], whole[key]) for key in whole)
    if isinstance(whole, list):
        return isinstance(left, list) and len(left) == len(whole) and all(map(is_left_of, left, whole))
    return encode(left) == encode(whole)


# -- real runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory:", "sqlite:///runs.db"])
def test_code_and_reader_come_to_the_same_states_of_a_real_run(url: str, tmp_path, monkeypatch):
    if url.startswith("sqlite"):
        pytest.importorskip("abstractruntime_sqlite")
    monkeypatch.chdir(tmp_path)
    handlers = {"say": EffectSpec(handler=say, recovery=Recovery.READ)}
    with open_runtime(url, workflows=[CHAT], effect_handlers=handlers) as rt:
        run_id = rt.start(workflow=CHAT, vars={"chat": [], "system": "Be brief. " * 10}, actor_id="ann")
        for answer in ("one", "two", "größe\u2028"):
            state = rt.tick(run_id=run_id)
            rt.resume(run_id=run_id, wait_key=state.waiting.wait_key, payload=answer, max_steps=1)
        rt.update_limits(run_id, {"max_iterations": 7})
        rt.cancel_run(run_id, reason="enough")
        ledger = list(rt.store.ledger(run_id))
    assert any(b'"refs"' in data for data in ledger)
    assert_read_alike(run_id, ledger)


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

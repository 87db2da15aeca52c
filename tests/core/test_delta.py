"""Deltas: every prefix of a ledger folds to what the node saw, byte by byte."""

from __future__ import annotations

import heapq
import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abstractruntime.codec import decode, draft_of, encode, same
from abstractruntime.codec.delta import diff
from abstractruntime.errors import InvalidValue
from abstractruntime.journal import Folded, Journal, fold, open_checkpoint

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 1e16, 1e-5]),
    st.text(max_size=5),
    st.sampled_from(["x" * 70, "y" * 70, "é" * 70]),
)
keys = st.sampled_from(["a", "b", "c", "d", "é", "", "a.b", "0"])
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)
states = st.dictionaries(keys, trees, max_size=5)
moves = st.lists(st.tuples(st.integers(0, 22), st.integers(0, 10**6), trees), max_size=6)


def mutate(draft: dict[str, Any], move: tuple[int, int, Any]) -> None:
    """One change that a node could make, somewhere in the draft."""
    what, where, value = move
    node: Any = draft
    while True:  # walk down by the digits of `where`
        where, choice = divmod(where, 7)
        children = [
            child for child in (node.values() if isinstance(node, dict) else node) if isinstance(child, (dict, list))
        ]
        if choice == 0 or not children:
            break
        node = children[choice % len(children)]
    if isinstance(node, dict):
        _mutate_dict(draft, node, what, where, value)
    else:
        _mutate_list(draft, node, what, where, value)


def _mutate_dict(draft: dict[str, Any], node: dict[str, Any], what: int, where: int, value: Any) -> None:
    names = list(node)
    name = names[where % len(names)] if names else "a"
    match what % 12:
        case 0 | 1:
            node["abcd"[where % 4]] = value
        case 2:
            node.pop(name, None)
        case 3 if names:
            node[name] = node.pop(name)  # moves to the end
        case 4 if names:
            node["moved"] = node.pop(name)
        case 5:
            node.update({"a": value, "z": name})
        case 6 if names and isinstance(node[name], str):
            node[name] += "more"
        case 7 if names:
            node["copy"] = node[name]
        case 8:
            node["round trip"] = json.loads(json.dumps(node))
        case 9 if names:
            node.popitem()
        case 10:
            kept = dict(node)
            node.clear()
            node.update(reversed(list(kept.items())))
        case 11 if isinstance(node.get(name), (int, bool)):
            node[name] = (
                not node[name] if isinstance(node[name], int) and node[name] in (0, 1) else float(node[name] % 1000)
            )


def _mutate_list(draft: dict[str, Any], node: list[Any], what: int, where: int, value: Any) -> None:
    place = where % (len(node) + 1)
    match what % 12:
        case 0 | 1:
            node.append(value)
        case 2:
            node.insert(place, value)
        case 3 if node:
            node.pop(place % len(node))
        case 4:
            del node[:place]
            node.append(value)
        case 5:
            node.reverse()
        case 6:
            node[place:] = [value, *node[:place]]
        case 7:
            node.extend(node[:place])
        case 8:
            node.sort(key=repr)
        case 9 if node:
            node[place % len(node)] = value
        case 10:
            draft["window"] = [*node[-place:], value]
        case 11 if node:
            draft["taken"] = node.pop(0)


def journal_of(state: dict[str, Any]) -> Journal:
    journal = Journal(Folded(run_id="r", workflow_id="w"), os.urandom)
    journal.write_delta("created", 1, {"workflow": "w", "node": "n"}, state)
    return journal


@given(states, st.lists(st.tuples(moves, trees), min_size=1, max_size=5))
@settings(max_examples=300)
def test_every_prefix_of_the_ledger_folds_to_the_bytes_that_the_node_left(
    state: dict[str, Any], steps: list[Any]
) -> None:
    journal = journal_of(state)
    seen = [encode(journal.state.vars)]
    assert seen[0] == encode(state)
    payloads: list[bytes] = []
    for number, (changes, extra) in enumerate(steps, 1):
        draft = draft_of(journal.state.vars)
        for move in changes:
            mutate(draft, move)
        payload = {"extra": extra, "whole": [draft[key] for key in draft], "again": list(draft.values())[:2]}
        wanted, wanted_payload = encode(draft), encode(payload)
        fields = {"step": number, "node": "n", "effect": "e", "next": "n", "recovery": "pure", "timeout_us": 1}
        journal.write_delta("decided", number, fields, draft, payload=payload)
        assert encode(journal.state.vars) == wanted
        payloads.append(wanted_payload)
        seen.append(wanted)
        assert encode(journal.payload()) == wanted_payload
        journal.write_delta("completed", number, {"step": number}, None, operands=[("outcome", extra)])
        seen.append(wanted)
    assert journal.missed == []
    records = journal.take_pending()
    for length, wanted in enumerate(seen, 1):
        assert encode(fold("r", records[:length]).vars) == wanted
    assert encode(fold("r", records)) == encode(journal.state)


@given(states, moves)
@settings(max_examples=300)
def test_a_checkpoint_folds_on_like_the_ledger_it_replaces(state: dict[str, Any], changes: list[Any]) -> None:
    journal = journal_of(state)
    checkpoint = journal.checkpoint(2)
    draft = draft_of(journal.state.vars)
    for move in changes:
        mutate(draft, move)
    journal.write_delta("stepped", 3, {"step": 1, "node": "n", "next": "n"}, draft)
    records = journal.take_pending()
    restored = fold("r", records[checkpoint.length :], open_checkpoint("r", checkpoint))
    assert encode(restored) == encode(fold("r", records)) == encode(journal.state)


@given(trees, trees)
def test_same_means_equal_bytes(one: Any, other: Any) -> None:
    assert same(one, other) == (encode(one) == encode(other))
    assert same(one, decode(encode(one)))


def test_true_is_not_one_and_zero_is_not_minus_zero() -> None:
    journal = journal_of({"flag": 1, "zero": 0.0, "order": {"a": 1, "b": 2}})
    draft = draft_of(journal.state.vars)
    draft["flag"], draft["zero"], draft["order"] = True, -0.0, {"b": 2, "a": 1}
    journal.write_delta("stepped", 2, {"step": 1, "node": "n", "next": "n"}, draft)
    assert encode(journal.state.vars) == b'{"flag":true,"zero":-0.0,"order":{"b":2,"a":1}}'


def test_changes_behind_the_back_of_python_are_seen() -> None:
    journal = journal_of({"queue": [[1, {"tries": 0}], [2, {"tries": 0}], [3, {"tries": 0}]]})
    draft = draft_of(journal.state.vars)
    entry = heapq.heappop(draft["queue"])
    entry[1]["tries"] += 1
    entry[0] = 9
    heapq.heappush(draft["queue"], entry)
    wanted = encode(draft)
    journal.write_delta("stepped", 2, {"step": 1, "node": "n", "next": "n"}, draft)
    assert encode(journal.state.vars) == wanted
    assert journal.missed == []


def test_a_draft_that_is_dropped_leaves_the_state_as_it_was() -> None:
    state = {"a": {"b": [1, {"c": 2}]}, "t": "x"}
    before = encode(state)
    draft = draft_of(state)
    draft["a"]["b"][1]["c"] = 3
    draft["a"]["b"].append(4)
    {**draft["a"]}["b"].append(5)
    for value in draft.values():
        if isinstance(value, dict):
            value["new"] = 1
    assert encode(state) == before


def test_the_delta_follows_the_change_and_not_the_state() -> None:
    journal = journal_of({"big": ["x" * 1000 for _ in range(100)], "log": ["y" * 1000 for _ in range(100)], "n": 0})
    journal.take_pending()
    draft = draft_of(journal.state.vars)
    draft["n"] = 1
    draft["log"].append("z")
    draft["log"] = draft["log"][-50:]
    journal.write_delta("stepped", 2, {"step": 1, "node": "n", "next": "n"}, draft)
    assert len(journal.take_pending()[0]) < 900
    assert len(journal.state.vars["log"]) == 50


def test_a_window_that_slides_is_a_cut_and_an_append() -> None:
    state = {"chat": [{"role": "user", "text": f"{number}"} for number in range(20)]}
    draft = draft_of(state)
    draft["chat"] = [*draft["chat"][2:], {"role": "user", "text": "new"}]
    ops = diff(state, draft)
    assert [op[0] for op in ops] == ["~", "+"]
    assert ops[0][1:4] == [("chat",), 0, 2]


def test_text_that_grows_is_stored_as_what_was_added() -> None:
    state = {"log": "x" * 100}
    draft = draft_of(state)
    draft["log"] += "more"
    assert diff(state, draft) == [["+", ("log",), "more"]]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, {"b": float("nan")}]}, r"vars\.a\[1\]\.b is nan"),
        ({"a": {1: 2}}, r"vars\.a\.1 is a key of type int"),
        ({"a": b"x"}, r"vars\.a is a bytes"),
        ({"a": {1, 2}}, r"vars\.a is a set"),
        ({"a": float("inf")}, r"vars\.a is inf"),
        ({"a": "\ud800"}, r"vars\.a holds a lone surrogate"),
        ({"a": object()}, r"vars\.a is a object"),
        ({"a": {"$erased": "x"}}, r"vars\.a has the key '\$erased'"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_its_path_and_nothing_is_written(value: Any, path: str) -> None:
    journal = journal_of({})
    before, length = encode(journal.state), len(journal.pending)
    draft = draft_of(journal.state.vars)
    draft.update(value)
    with pytest.raises(InvalidValue, match=path):
        journal.write_delta("stepped", 2, {"step": 1, "node": "n", "next": "n"}, draft)
    assert encode(journal.state) == before
    assert len(journal.pending) == length


def test_a_value_that_contains_itself_is_refused() -> None:
    journal = journal_of({})
    draft = draft_of(journal.state.vars)
    draft["a"] = []
    draft["a"].append(draft["a"])
    with pytest.raises(InvalidValue, match="contains itself"):
        journal.write_delta("stepped", 2, {"step": 1, "node": "n", "next": "n"}, draft)

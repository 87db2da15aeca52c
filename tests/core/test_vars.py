import pytest

from abstractruntime import vars as namespaces
from abstractruntime.codec import draft_of
from abstractruntime.limits import RuntimeConfig


def test_missing_namespaces_are_made_and_the_same_vars_returned():
    given = {"context": {"task": "x"}, "own": 1}
    assert namespaces.ensure_namespaces(given) is given
    assert given == {"context": {"task": "x"}, "own": 1, "scratchpad": {}, "_runtime": {}, "_temp": {}}


@pytest.mark.parametrize(
    ("get", "key"),
    [
        (namespaces.get_context, namespaces.CONTEXT),
        (namespaces.get_scratchpad, namespaces.SCRATCHPAD),
        (namespaces.get_runtime, namespaces.RUNTIME),
        (namespaces.get_temp, namespaces.TEMP),
        (namespaces.get_limits, namespaces.LIMITS),
    ],
)
def test_a_namespace_is_the_dict_that_stands_in_vars(get, key):
    given = {}
    found = get(given)
    found["x"] = 1
    assert given[key]["x"] == 1
    assert get(given) is found


@pytest.mark.parametrize("broken", [None, 7, "text", []])
def test_what_is_no_dict_is_replaced_by_an_empty_one(broken):
    given = {"scratchpad": broken}
    assert namespaces.get_scratchpad(given) == {}
    assert given["scratchpad"] == {}


def test_a_name_that_is_no_namespace_is_a_key_error():
    with pytest.raises(KeyError, match="elsewhere"):
        namespaces.get_namespace({}, "elsewhere")


def test_clearing_temp_keeps_the_dict_and_empties_it():
    given = {"_temp": {"a": 1}}
    temp = given["_temp"]
    namespaces.clear_temp(given)
    assert given["_temp"] is temp
    assert temp == {}


def test_limits_are_made_once_and_left_alone_afterwards():
    assert namespaces.ensure_limits({}) == RuntimeConfig().to_limits_dict()
    assert namespaces.ensure_limits({"_limits": {"max_iterations": 3}}) == {"max_iterations": 3}
    assert namespaces.ensure_limits({"_limits": {}}) == {}
    assert namespaces.ensure_limits({"_limits": 3}) == RuntimeConfig().to_limits_dict()


def test_the_default_limits_cannot_be_changed_by_a_run():
    namespaces.ensure_limits({})["max_iterations"] = 1
    assert namespaces.ensure_limits({})["max_iterations"] == 25


def test_a_node_that_uses_the_helpers_changes_its_draft_and_not_the_folded_state():
    folded = {"context": {"messages": ["a"]}}
    draft = draft_of(folded)
    namespaces.get_context(draft)["messages"].append("b")
    namespaces.get_temp(draft)["x"] = 1
    assert draft["context"]["messages"] == ["a", "b"]
    assert draft["_temp"] == {"x": 1}
    assert folded == {"context": {"messages": ["a"]}}

"""JSON on the command line, and what is said of text that is none."""

import pytest

from abstractruntime.errors import UsageError
from abstractruntime_cli.inputs import read_json, read_vars


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("true", True),
        ("null", None),
        ('{"a": [1]}', {"a": [1]}),
        ('"3"', "3"),
        ("letter.txt", "letter.txt"),
        ("01234", "01234"),
        ("NaN", "NaN"),
        ("", ""),
        ("a=b", "a=b"),
    ],
)
def test_a_single_value_is_json_where_it_reads_as_json_and_text_elsewhere(text, value):
    assert read_vars(None, [f"key={text}"]) == {"key": value}
    assert type(read_vars(None, [f"key={text}"])["key"]) is type(value)


def test_dotted_keys_make_the_objects_on_their_way():
    assert read_vars('{"a": {"b": 1}}', ["a.c=2", "x.y.z=3"]) == {"a": {"b": 1, "c": 2}, "x": {"y": {"z": 3}}}


@pytest.mark.parametrize("assignment", ["name", "=3", "a..b=3", ".a=3"])
def test_an_assignment_without_a_key_or_a_value_is_refused(assignment):
    with pytest.raises(UsageError, match="is not KEY=VALUE"):
        read_vars(None, [assignment])


def test_a_dotted_key_through_a_value_that_is_no_object_is_refused_and_named():
    with pytest.raises(UsageError, match=r"'a\.b' is a number, not an object"):
        read_vars('{"a": {"b": 1}}', ["a.b.c=2"])


@pytest.mark.parametrize(
    ("text", "kind"), [("[1]", "a list"), ("null", "null"), ("1.5", "a number"), ("true", "true or false")]
)
def test_vars_must_be_an_object(text, kind):
    with pytest.raises(UsageError, match=f"must be a JSON object, not {kind}"):
        read_vars(text, [])


def test_text_that_is_no_json_is_refused_with_option_and_place():
    with pytest.raises(UsageError, match=r"--vars: the value is no JSON: .* at line 1, column 2") as raised:
        read_json("{'a': 1}", "--vars")
    assert "double quotes" in str(raised.value.hint)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_numbers_that_json_does_not_have_are_refused(text):
    with pytest.raises(UsageError, match="is no JSON value"):
        read_json(text, "--vars")


def test_json_nested_without_end_is_refused_and_not_a_crash():
    with pytest.raises(UsageError, match="nested too deeply"):
        read_json("[" * 100_000, "--vars")


def test_a_file_is_named_when_it_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*none\.json: No such file"):
        read_json(f"@{tmp_path / 'none.json'}", "--vars")
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"name": "Zo\xeb"}')
    with pytest.raises(UsageError, match=r"latin\.json is not UTF-8 \(byte 12\)"):
        read_json(f"@{latin}", "--vars")


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    marked = tmp_path / "marked.json"
    marked.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(f"@{marked}", "--vars") == {"a": 1}

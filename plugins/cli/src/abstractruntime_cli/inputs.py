"""JSON given on the command line: in place, from a file (``@file``) or from standard input (``-``)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn, cast

from abstractruntime.errors import UsageError
from abstractruntime.models import JsonDict, JsonValue


def read_json(text: str, option: str) -> JsonValue:
    """The value that ``text`` holds or names. Raises `UsageError` naming ``option``, the source and the place."""
    source, content = _content(text, option)
    try:
        return _parse(content)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{option}: {source} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            hint='texts need double quotes, and the shell single ones around them: \'{"name": "Ada"}\'',
            option=option,
        ) from None
    except RecursionError:
        raise UsageError(f"{option}: {source} is nested too deeply", hint="flatten it", option=option) from None


def read_vars(whole: str | None, single: Iterable[str]) -> JsonDict:
    """The first ``vars`` of a run: the object of ``--vars``, and on top of it each ``--var key=value``.

    A dotted key goes down into objects, made as needed. A value that reads as JSON is that value, any other is text.
    """
    variables = read_json(whole, "--vars") if whole is not None else {}
    if not isinstance(variables, dict):
        raise UsageError(
            f"--vars must be a JSON object, not {_kind(variables)}", hint='e.g. \'{"file": "a.txt"}\'', option="--vars"
        )
    for assignment in single:
        _assign(variables, assignment)
    return variables


def _content(text: str, option: str) -> tuple[str, str]:
    if text == "-":
        return "standard input", sys.stdin.read()
    if not text.startswith("@"):
        return "the value", text
    path = Path(text[1:])
    try:
        return str(path), path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"{option}: cannot read {path}: {error.strerror}",
            hint=f"the path is taken from {Path.cwd()}",
            option=option,
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{option}: {path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8", option=option
        ) from None


def _parse(content: str) -> JsonValue:
    return cast("JsonValue", json.loads(content, parse_constant=_no_constant))


def _no_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no JSON value", name, 0)


def _assign(variables: JsonDict, assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    names = key.split(".")
    if not equals or not all(names):
        raise UsageError(
            f"--var {assignment!r} is not KEY=VALUE",
            hint="e.g. --var file=a.txt, --var context.copies=2",
            option="--var",
        )
    inner = variables
    for depth, name in enumerate(names[:-1], start=1):
        below = inner.setdefault(name, {})
        if not isinstance(below, dict):
            raise UsageError(
                f"--var {key!r}: {'.'.join(names[:depth])!r} is {_kind(below)}, not an object",
                hint="leave one of the two out",
                option="--var",
            )
        inner = below
    inner[names[-1]] = _value(text)


def _value(text: str) -> JsonValue:
    try:
        return _parse(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def _kind(value: JsonValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "an object"

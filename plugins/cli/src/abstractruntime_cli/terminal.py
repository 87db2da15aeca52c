"""What people and programs read: text for a terminal or a pipe, JSON, errors.

Results go to standard output, everything else to standard error. What comes out of a run (its vars, keys, errors) may
hold anything, control sequences for the terminal included; it is shown escaped and never read as markup.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TextIO

from abstractruntime.errors import AbstractRuntimeError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

PLAIN_WIDTH: Final = 1_000_000
"""Without a terminal no line is cut or wrapped: a program reads it."""

_LAID_OUT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def console(*, stderr: bool = False) -> Console:
    """A console on what is standard output, or error, now. Without a terminal: no colour and no wrapping."""
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process itself, with another code than ours

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return PipedConsole(
        file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=width is not None
    )


def show(*parts: RenderableType, stderr: bool = False) -> None:
    """Write each part, one below the other."""
    from rich.text import Text

    target = console(stderr=stderr)
    if target.is_terminal:
        for part in parts:
            # A long line is left to the terminal to break, so that a command copied from it is in one piece.
            target.print(part, soft_wrap=isinstance(part, Text))
        return
    with target.capture() as captured:
        for part in parts:
            target.print(part)
    stream = sys.stderr if stderr else sys.stdout
    stream.writelines(line.rstrip(" ") + "\n" for line in captured.get().splitlines())
    if stderr:
        stream.flush()


def show_json(value: object, *, lines: bool = False) -> None:
    """Write ``value`` as one JSON document, or each item of a list as one line."""
    ascii_only = (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"
    if lines:
        if not isinstance(value, Sequence):
            raise TypeError(f"lines come from a list, not from {type(value).__name__}")
        for item in value:
            sys.stdout.write(json.dumps(item, ensure_ascii=ascii_only, separators=(",", ":")) + "\n")
    else:
        sys.stdout.write(json.dumps(value, ensure_ascii=ascii_only, indent=2) + "\n")


def show_error(error: BaseException) -> None:
    """``error[code]: message``, and below it ``hint: …``, on standard error."""
    code, message, hint = _said(error)
    text = styled(("error", "bold red"), (f"[{code}]", "red"), f": {message}")
    if hint:
        text.append_text(styled("\n", ("hint", "bold cyan"), f": {hint}"))
    show(text, stderr=True)


def note(message: str) -> None:
    """One line on standard error that is no error."""
    show(styled((message, "dim")), stderr=True)


def warn(message: str) -> None:
    """One line on standard error that somebody should look at."""
    show(styled(("warning", "bold yellow"), f": {message}"), stderr=True)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Text of several parts, each escaped, those given as (text, style) in that style."""
    from rich.text import Text

    text = Text(overflow="fold")
    for part in parts:
        words, style = part if isinstance(part, tuple) else (part, "")
        text.append(escaped(words), style)
    return text


def pretty(value: object, *, indent: int = 0) -> Text:
    """A JSON value over several lines, coloured on a terminal, each line after ``indent`` spaces."""
    from rich.highlighter import JSONHighlighter

    layout = json.dumps(value, ensure_ascii=False, indent=2)
    text = styled("\n".join(" " * indent + line for line in layout.splitlines()))
    JSONHighlighter().highlight(text)
    return text


def escaped(text: str, *, one_line: bool = False) -> str:
    """``text`` without what a terminal would obey: control characters are shown as ``\\x1b``.

    Line breaks and tabs stay, unless it has to be ``one_line``.
    """
    return (_ONE_LINE if one_line else _LAID_OUT).sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def shortened(value: object, *, characters: int = 400, items: int = 20, depth: int = 8) -> object:
    """A JSON value small enough to be looked at: what is long or deep is cut, and says by how much."""
    if isinstance(value, str):
        more = len(value) - characters
        return value if more <= 0 else f"{value[:characters]} ... {more:,} more characters"
    if isinstance(value, Mapping):
        if depth == 0 and value:
            return f"... {len(value):,} keys"
        kept = dict(list(value.items())[:items])
        cut = {
            str(key): shortened(inner, characters=characters, items=items, depth=depth - 1)
            for key, inner in kept.items()
        }
        return cut if len(value) <= items else {**cut, "...": f"{len(value) - items:,} more keys"}
    if isinstance(value, list):
        if depth == 0 and value:
            return f"... {len(value):,} items"
        kept_items = [shortened(inner, characters=characters, items=items, depth=depth - 1) for inner in value[:items]]
        return kept_items if len(value) <= items else [*kept_items, f"... {len(value) - items:,} more items"]
    return value


def prepare_streams() -> None:
    """A terminal that cannot show a character gets it escaped, where Python would end in an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """Nobody reads our output any more: let the interpreter's own flush at its end go nowhere, without a message."""
    stream: TextIO = sys.stdout
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return  # no real file, so nothing that could break
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _said(error: BaseException) -> tuple[str, str, str | None]:
    if isinstance(error, AbstractRuntimeError):
        return error.code, error.message, error.hint
    return (
        "internal",
        f"{type(error).__name__}: {error}",
        "this should not happen; -v shows the traceback, please report it",
    )

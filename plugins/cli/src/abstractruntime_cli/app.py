"""The program: its commands, its options for all of them, and what becomes of an error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, NoReturn, ParamSpec, cast

import typer
from typer.core import TyperGroup

from abstractruntime.errors import UsageError

from .commands import driving, inspection, installation
from .exits import ExitCode, exit_code_of_error
from .extension import add_plugin_commands
from .invocation import Invocation
from .options import StoreOption, VerboseOption
from .terminal import drop_output, note, prepare_streams, show, show_error, warn

HELP = """Durable runs on the command line: start them, answer what they wait for, and see what they did.

A run is a workflow's way through its steps. Each step is kept in a store, so a run goes on after a crash, a restart or
a month.
"""
EXAMPLES = {
    "art run demo:review --var file=letter.txt": "start the workflow `review` of demo.py",
    "art runs --waiting": "what waits for an answer",
    "art resume 3f2a --text yes --workflow demo:review": "answer, and drive on",
    "art ledger 3f2a": "what it did, record by record",
    "art doctor": "whether all is well here",
}
EXIT_CODES = "0 done, 1 failed, 2 usage, 3 waits, 4 not found, 5 conflict, 6 store, 130 Ctrl-C"
EPILOG = "\n".join(
    ["[bold]Examples[/]"]
    + [f"  [cyan]{command}[/]\n      {what}" for command, what in EXAMPLES.items()]
    + ["", "[bold]Exit codes[/]", f"  {EXIT_CODES}"]
)


# typer has its own copy of click, or click itself, by its version: this is the error of either.
_USAGE_ERRORS: tuple[type[Any], ...] = typer.BadParameter.__bases__


class Program(TyperGroup):
    """The root command. Errors become two lines and an exit code; other plugins' commands are found when needed."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: object,
    ) -> NoReturn:
        """Run the command that ``args`` name, and end the process with its exit code, whatever the mode."""
        prepare_streams()
        words = list(sys.argv[1:] if args is None else args)
        invocation = Invocation()
        with _logged():
            code = self._call(words, prog_name, complete_var, invocation, extra)
        sys.exit(code)

    def _call(
        self,
        words: list[str],
        prog_name: str | None,
        complete_var: str | None,
        invocation: Invocation,
        extra: dict[str, object],
    ) -> int:
        try:
            if "--version" not in words and command_word(words) not in self.commands:
                add_plugin_commands(self, invocation)
            result = super().main(
                args=words,
                prog_name=prog_name,
                complete_var=complete_var,
                standalone_mode=False,
                **{**cast("dict[str, Any]", extra), "obj": invocation},
            )
            sys.stdout.flush()  # here, where a reader that went away can still be told from an error
        except (KeyboardInterrupt, typer.Abort):
            note("interrupted")
            return ExitCode.INTERRUPTED
        except BrokenPipeError:
            drop_output()
            return ExitCode.BROKEN_PIPE
        except Exception as error:  # noqa: BLE001  # it ends here, in two lines and an exit code
            return _ended_by(error, verbose=invocation.verbose)
        return result if isinstance(result, int) and not isinstance(result, bool) else ExitCode.DONE


def command_word(words: Sequence[str]) -> str | None:
    """The command's name among the words of a command line, None if there is none."""
    rest = iter(words)
    for word in rest:
        if word == "--store":
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return None


def unwrapped(text: str) -> str:
    """A docstring with each paragraph on one line: the terminal's width decides where it is broken."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


app = typer.Typer(
    name="art",
    cls=Program,
    help=unwrapped(HELP),
    epilog=EPILOG,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        show(f"abstractruntime {version('abstractruntime')} (command line {version('abstractruntime-cli')})")
        raise typer.Exit


@app.callback()
def everywhere(
    ctx: typer.Context,
    store: StoreOption = None,
    verbose: VerboseOption = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the versions.", show_default=False),
    ] = False,
) -> None:
    """Take in what stands before the command, and show the help where there is none."""
    del version  # its callback has ended the call
    Invocation.of(ctx, store, verbose=verbose)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(ExitCode.USAGE)


_P = ParamSpec("_P")


def _piped(command: Callable[_P, ExitCode]) -> Callable[_P, ExitCode]:
    """The command, with a code of its own for a reader that went away: typer would take that for a common error."""

    @wraps(command)
    def piped(*args: _P.args, **options: _P.kwargs) -> ExitCode:
        try:
            return command(*args, **options)
        except BrokenPipeError:
            drop_output()
            return ExitCode.BROKEN_PIPE

    return piped


COMMANDS: dict[str, dict[str, Callable[..., ExitCode]]] = {
    "Drive runs": {
        "run": driving.run,
        "resume": driving.resume,
        "retry": driving.retry,
        "resolve": driving.resolve,
        "cancel": driving.cancel,
    },
    "Look at runs": {"runs": inspection.runs, "show": inspection.show_run, "ledger": inspection.ledger},
    "Installation": {
        "plugins": installation.plugins,
        "config": installation.config,
        "doctor": installation.doctor,
    },
}
for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        app.command(name, help=unwrapped(command.__doc__ or ""), rich_help_panel=panel)(_piped(command))


def main() -> NoReturn:
    """Entry point of the scripts `abstractruntime` and `art`."""
    app()
    raise AssertionError("the program ends the process")


def _ended_by(error: Exception, *, verbose: bool) -> int:
    """Say what went wrong, and give the exit code for it."""
    if isinstance(error, _USAGE_ERRORS):
        context = error.ctx
        path = context.command_path if context is not None else "art"
        show_error(UsageError(error.format_message(), hint=f"`{path} --help` says how it is used"))
        return ExitCode.USAGE
    if verbose:
        import traceback

        traceback.print_exception(error)
    show_error(error)
    return exit_code_of_error(error)


class _Told(logging.Handler):
    """Log records as lines on standard error: every warning, and less than that only of our own distributions."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            warn(record.getMessage())
        elif record.name.startswith("abstractruntime"):
            note(record.getMessage())


@contextmanager
def _logged() -> Iterator[None]:
    """What is logged is told while this lasts; `--verbose` lowers the root logger's level to the runtime's remarks."""
    root, handler = logging.getLogger(), _Told()
    level = root.level
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)

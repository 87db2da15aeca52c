"""What a command's exit code means, for scripts. A test holds the table in `docs/reference/cli.md` to this module."""

from __future__ import annotations

from enum import IntEnum

from abstractruntime.errors import (
    AbstractRuntimeError,
    Conflict,
    DuplicateRun,
    EffectError,
    FormatError,
    Leased,
    NotWaiting,
    StoreError,
    UnknownRun,
    UnknownWait,
    WrongStatus,
)
from abstractruntime.models import RunState, RunStatus


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    """It did what was asked; a run that it drove completed."""
    FAILED = 1
    """The run failed or was cancelled; `doctor` found something that cannot work."""
    USAGE = 2
    """The command line, the configuration, a plugin or a workflow's module cannot be used."""
    WAITS = 3
    """The run is not at its end: it waits, or it was stopped by `--max-steps`. It can be carried on."""
    NOT_FOUND = 4
    """No such run, or the run asks no such question."""
    CONFLICT = 5
    """Somebody else holds the run or was first, or the run's status does not allow it."""
    STORE = 6
    """The store failed, or holds what this version cannot read."""
    INTERNAL = 70
    """An error that is not ours to expect: please report it."""
    INTERRUPTED = 130
    """Ctrl-C. A run stays as its last commit left it."""
    BROKEN_PIPE = 141
    """Whoever read the output went away."""


_CODES: tuple[tuple[tuple[type[AbstractRuntimeError], ...], ExitCode], ...] = (
    ((UnknownRun, UnknownWait), ExitCode.NOT_FOUND),
    ((Conflict, Leased, NotWaiting, WrongStatus, DuplicateRun), ExitCode.CONFLICT),
    ((StoreError, FormatError), ExitCode.STORE),
    ((EffectError,), ExitCode.FAILED),
    ((AbstractRuntimeError,), ExitCode.USAGE),
)


def exit_code_of_error(error: Exception) -> ExitCode:
    """The code for an error that ends a command; errors that are not of our hierarchy are `INTERNAL`."""
    for kinds, code in _CODES:
        if isinstance(error, kinds):
            return code
    return ExitCode.INTERNAL


def exit_code_of_run(state: RunState) -> ExitCode:
    """The code for a command that drove a run to where it now stands."""
    if state.status is RunStatus.COMPLETED:
        return ExitCode.DONE
    if state.status.is_terminal:
        return ExitCode.FAILED
    return ExitCode.WAITS

"""Commands of other plugins, found when a command is asked for that is not ours, and for the help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from typer.core import TyperCommand, TyperGroup

from abstractruntime.errors import AbstractRuntimeError

from .invocation import Invocation
from .terminal import warn

if TYPE_CHECKING:
    from abstractruntime.hookspecs import CommandSpec

PANEL = "Of plugins"


def add_plugin_commands(program: TyperGroup, invocation: Invocation) -> None:
    """Put the commands of all plugins into ``program``. One that cannot be had is a warning: the others go on.

    A command of ours is never replaced.
    """
    from abstractruntime.plugins import PluginHost

    try:
        specs = PluginHost(invocation.settings).commands()
    except AbstractRuntimeError as error:
        warn(f"no commands of plugins: {error}")
        return
    for spec in specs:
        if spec.name in program.commands:
            warn(f"the command {spec.name!r} of a plugin is not used: there is one of that name")
        else:
            _add(program, spec)


def _add(program: TyperGroup, spec: CommandSpec) -> None:
    """Let the plugin build its command in an application of its own, and take that one command over."""
    guest = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)
    guest.callback()(_nothing)  # without it, an application with a single command would be that command
    try:
        spec.add(guest)
        group = typer.main.get_group(guest)
    except Exception as error:  # noqa: BLE001  # whatever a plugin does, the command line goes on
        warn(f"the command {spec.name!r} of a plugin cannot be added: {type(error).__name__}: {error}")
        return
    command = group.commands.get(spec.name)
    if command is None:
        there = ", ".join(group.commands) or "none"
        warn(f"a plugin promised the command {spec.name!r} and added others: {there}")
        return
    if not command.help:
        command.help = spec.summary
    if isinstance(command, TyperCommand | TyperGroup):
        command.rich_help_panel = PANEL
    program.add_command(command, spec.name)


def _nothing() -> None:
    """A callback that does nothing."""

"""Commands about this installation: `plugins`, `config`, `doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..exits import ExitCode
from ..invocation import Invocation
from ..options import JsonFlag, StoreOption, VerboseOption
from ..terminal import show, show_json, styled
from ..views import finding_line, plugin_table, setting_table


def plugins(
    ctx: typer.Context,
    *,
    why: Annotated[
        bool, typer.Option("--why", help="Say why a plugin is broken or disabled.", show_default=False)
    ] = False,
    as_json: JsonFlag = False,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """List the installed plugins, what they bring, and whether they work."""
    from msgspec import structs

    from abstractruntime.plugins import PluginHost

    infos = PluginHost(Invocation.of(ctx, store, verbose=verbose).settings).report(load_all=True)
    if as_json:
        show_json([structs.asdict(info) for info in infos])
        return ExitCode.DONE
    show(plugin_table(infos))
    unused = [info for info in infos if info.why]
    if why:
        show(*(styled(("\n" + info.name, "bold"), f": {info.why}") for info in unused))
        if not unused:
            show(styled("\nall of them work"))
    elif unused:
        show(styled((f"\n{len(unused)} not in use: art plugins --why", "yellow")))
    return ExitCode.DONE


def config(
    ctx: typer.Context,
    *,
    as_json: JsonFlag = False,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """Show each setting, its value, and where it comes from.

    Secrets are hidden. A setting comes from an option, else from an environment variable `ABSTRACTRUNTIME_...`, else
    from `abstractruntime.toml` (or `pyproject.toml`) in the working directory, else it is a default.
    """
    from msgspec import structs

    entries = Invocation.of(ctx, store, verbose=verbose).settings.entries()
    if as_json:
        show_json([structs.asdict(entry) for entry in entries])
    else:
        show(setting_table(entries))
    return ExitCode.DONE


def doctor(
    ctx: typer.Context,
    *,
    as_json: JsonFlag = False,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """Check what could keep a run from running here, and say what to do about it."""
    from dataclasses import asdict

    from ..doctor import examine

    findings = []
    for finding in examine(Invocation.of(ctx, store, verbose=verbose)):
        findings.append(finding)
        if not as_json:
            show(finding_line(finding))
    if as_json:
        show_json([asdict(finding) for finding in findings])
    return ExitCode.FAILED if any(finding.verdict == "fail" for finding in findings) else ExitCode.DONE

"""Arguments and options that several commands share, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run id, or its first 4 characters or more.")]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="The store, e.g. sqlite:///runs.db.", rich_help_panel="Everywhere"),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Say more, with tracebacks.", show_default=False, rich_help_panel="Everywhere"
    ),
]
WorkflowOption = Annotated[
    str | None,
    typer.Option(
        "--workflow", "-w", metavar="MODULE:WORKFLOW",
        help="The workflow's code. Not needed where a plugin registers it.",
    ),
]  # fmt: skip
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.", show_default=False)]
MaxStepsOption = Annotated[
    int | None,
    typer.Option("--max-steps", min=1, metavar="N", help="Stop after N steps. Default: no bound."),
]

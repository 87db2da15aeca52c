"""What a person sees while a run is driven: the step, its node, what it asked for, and how long it all takes.

On a terminal it is one line that changes; without one, a line now and then. Both go to standard error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from abstractruntime.models import RunState, StepPlan
from abstractruntime.workflow import NodeHandler, RunContext, WorkflowSpec

from .terminal import console, note, styled

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

QUIET_S = 2.0
"""Without a terminal: the time of silence before a change is told. A run that is done sooner tells none."""
REMINDER_S = 15.0
"""Without a terminal: the time of silence before it is told that nothing changed."""
_POLL_S = 0.2


@dataclass(slots=True)
class Progress:
    """The present step of a run that is driven in this thread, shown from another one."""

    steps: int = 0
    node_id: str = ""
    effect_type: str = ""
    message: str = ""
    clock: Callable[[], float] = time.monotonic
    _begun: float = field(default=0.0, init=False)
    _display: Live | _Lines | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        self._begun = self.clock()
        target = console(stderr=True)
        if target.is_terminal:
            from rich.live import Live

            # What a node prints goes above the line, but never from a pipe into the terminal.
            redirect = console().is_terminal
            self._display = Live(
                get_renderable=_Line(self), console=target, transient=True, refresh_per_second=8,
                redirect_stdout=redirect, redirect_stderr=True,
            )  # fmt: skip
            self._display.start()
        else:
            self._display = _Lines(self)
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the display began."""
        return self.clock() - self._begun

    def watch(self, workflow: WorkflowSpec) -> WorkflowSpec:
        """The same workflow, whose nodes tell this display that they are visited and what they ask for."""
        nodes = {node_id: self._watched(node_id, node) for node_id, node in workflow.nodes.items()}
        return replace(workflow, nodes=nodes)

    def at(self, state: RunState) -> None:
        """Show where a run stands that is taken on."""
        self.node_id, self.steps, self.effect_type = state.current_node, state.step, ""

    def _watched(self, node_id: str, node: NodeHandler) -> NodeHandler:
        def visit(run: RunState, ctx: RunContext) -> StepPlan:
            self.node_id, self.steps, self.effect_type = node_id, self.steps + 1, ""
            plan = node(run, ctx)
            effect = getattr(plan, "effect", None)  # a node may return anything; the engine says so
            self.effect_type = "" if effect is None else str(effect.type)
            return plan

        return visit


class _Line:
    """The line on a terminal: a spinner, the parts, the time."""

    def __init__(self, progress: Progress) -> None:
        from rich.spinner import Spinner

        self._progress = progress
        self._spinner = Spinner("line", style="cyan")

    def __call__(self) -> Table:
        from rich.table import Table

        step, node, effect, elapsed = line_parts(self._progress)
        words = styled(step, "  ", (node, "bold"), "  " if effect else "", (effect, "cyan"), "  ", (elapsed, "dim"))
        line = Table.grid(padding=(0, 1))
        line.add_row(self._spinner, words, styled((self._progress.message, "yellow")))
        return line


class _Lines:
    """Lines without a terminal, written by a thread of its own so that a long effect is heard of too."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        told: tuple[object, ...] = ()
        told_at, told_message = 0.0, ""
        while not self._ended.wait(_POLL_S):
            progress = self._progress
            now = progress.elapsed_s
            present = (progress.steps, progress.node_id, progress.effect_type)
            silence = now - told_at
            if progress.message != told_message:
                told_message = progress.message
                note(told_message)
            if (present != told and silence >= QUIET_S) or silence >= REMINDER_S:
                told, told_at = present, now
                note("  ".join(part for part in line_parts(progress) if part))


def line_parts(progress: Progress) -> tuple[str, str, str, str]:
    """The step, the node, the effect, the time: as words."""
    return f"step {progress.steps}", progress.node_id, progress.effect_type, clock_text(progress.elapsed_s)


def clock_text(seconds: float) -> str:
    """A length of time for people: ``0.4 s``, ``14 s``, ``2:05``, ``1:02:05``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

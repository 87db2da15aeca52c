"""What is said of a run after it was driven: where it stands, what it waits for, and the command that takes it on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abstractruntime.models import RunState, RunStatus, WaitReason, WaitState

from .drive import Drive
from .hints import Hints, is_doubt
from .progress import clock_text
from .terminal import pretty, shortened, styled
from .views import STATUS_STYLES, first_line, seconds_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_REASONS = {
    WaitReason.EVENT: "an event",
    WaitReason.UNTIL: "a time",
    WaitReason.USER: "a person",
    WaitReason.JOB: "a job",
    WaitReason.SUBWORKFLOW: "another run",
}


def outcome(drive: Drive, hints: Hints) -> list[RenderableType]:
    """The lines about a run that was driven."""
    state = drive.state
    spent = f"{state.step:,} step{'' if state.step == 1 else 's'}, {clock_text(drive.elapsed_s)}"
    match state.status:
        case RunStatus.COMPLETED:
            output = [pretty(shortened(state.output), indent=2)] if state.output else []
            return [_headline(state, "completed", spent), *output]
        case RunStatus.CANCELLED:
            return [_headline(state, "cancelled", spent), *_error(state)]
        case RunStatus.FAILED:
            head = _headline(state, "failed", f"at node {state.current_node!r}, {spent}")
            return [head, *_error(state), hints.ledger(state.run_id), hints.retry(state.run_id)]
        case RunStatus.WAITING:
            return _waiting(state, spent, hints)
        case RunStatus.RUNNING:
            return _stopped(drive, spent, hints)


def settled(state: RunState, hints: Hints) -> list[RenderableType]:
    """The lines about a run in doubt whose answer is recorded, and that nobody drives on here."""
    line = styled("run ", (state.run_id, "bold"), " is settled; it is ", (state.status, STATUS_STYLES[state.status]))
    return [line] if state.status.is_terminal else [line, hints.go_on(state.run_id)]


def open_waits(state: RunState) -> tuple[WaitState, ...]:
    """Every wait of the run that nobody has answered."""
    return state.waits or ((state.waiting,) if state.waiting is not None else ())


def waits(state: RunState, hints: Hints) -> list[RenderableType]:
    """Each open wait: what it asks, and how it is answered."""
    lines: list[RenderableType] = []
    asked = open_waits(state)
    for wait in asked:
        lines += [*_question(wait), hints.answer(state, wait, alone=len(asked) == 1)]
    return lines


def waits_for(state: RunState) -> str:
    """What the run waits for, in words."""
    if any(is_doubt(wait.wait_key) for wait in open_waits(state)):
        return "is in doubt"
    return "waits for " + " and ".join(dict.fromkeys(_REASONS[wait.reason] for wait in open_waits(state)))


def _question(wait: WaitState) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if wait.prompt:
        lines += [styled("  ", (line, "bold")) for line in wait.prompt.splitlines()]
    if wait.choices:
        lines.append(
            styled("  choices: ", " | ".join(wait.choices), "  (or another text)" if wait.allow_free_text else "")
        )
    if wait.reason in {WaitReason.EVENT, WaitReason.JOB} and wait.wait_key:
        lines.append(styled("  key: ", (wait.wait_key, "bold")))
    if wait.until:
        lines.append(styled("  until: ", wait.until))
    if wait.details:
        lines += [styled("  details:"), pretty(shortened(wait.details), indent=4)]
    return lines


def _waiting(state: RunState, spent: str, hints: Hints) -> list[RenderableType]:
    return [
        _headline(state, waits_for(state), f"at node {state.current_node!r}, {spent}", "waiting"),
        *waits(state, hints),
    ]


def _stopped(drive: Drive, spent: str, hints: Hints) -> list[RenderableType]:
    state = drive.state
    why, more = "stopped after --max-steps", ""
    if state.stopped == "in_doubt":
        why = "is in doubt"
        until = seconds_text(drive.due) if drive.due is not None else "its time is over"
        more = f"an interrupted effect may be under way until {until}; after that the run asks what became of it"
    elif drive.midstep:
        why = "was interrupted in the middle of a step"
        more = "the steps before it are kept; its node runs again, or its effect goes by its recovery class"
    elif drive.interrupted:
        why = "was interrupted between two steps"
    lines: list[RenderableType] = [_headline(state, why, f"at node {state.current_node!r}, {spent}", "waiting")]
    if more:
        lines.append(styled((f"  {more}", "dim")))
    return [*lines, hints.go_on(state.run_id)]


def _headline(state: RunState, words: str, more: str, status: str | None = None) -> Text:
    return styled(
        "run ", (state.run_id, "bold"), " ", (words, STATUS_STYLES.get(status or words, "")), (f"  {more}", "dim")
    )


def _error(state: RunState) -> list[RenderableType]:
    said = first_line(state.error)
    return [styled("  error: ", (said, "red"))] if said else []

"""Runs and ledgers as people read them, and as the JSON that programs read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from abstractruntime.models import Instant, JsonDict, RunState, WaitReason, instant_text, parse_instant
from abstractruntime.store.contract import RunHead

from .hints import is_doubt
from .terminal import escaped, pretty, shortened, styled

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from abstractruntime.config import SettingEntry
    from abstractruntime.plugins import PluginInfo

    from .doctor import Finding

STATUS_STYLES = {
    "running": "cyan",
    "waiting": "yellow",
    "in doubt": "bold magenta",
    "completed": "green",
    "failed": "bold red",
    "cancelled": "dim",
}


def status_of(head: RunHead) -> str:
    """The status in a word or two: ``in doubt`` for a run parked with that question, ``paused`` for a paused one."""
    if head.held:
        return str(head.held)
    if any(is_doubt(wait.wait_key) for wait in head.projection.waits):
        return "in doubt"
    return head.projection.status


def run_table(heads: Iterable[RunHead], now: Instant, *, exact: bool) -> Table:
    """One row per run. ``exact``: whole ids and times, for programs; people get the 8 characters that name a run."""
    table = _table("run", "workflow", "status", "since", "waits for", "records", numbers=("records",))
    for head in heads:
        about, status = head.projection, status_of(head)
        version = f" {about.workflow_version}" if about.workflow_version else ""
        waits = ", ".join(_wait_words(wait.reason, wait.wait_key, wait.until) for wait in about.waits)
        table.add_row(
            _cell(head.run_id if exact else short_id(head.run_id), "bold"),
            _cell(about.workflow_id + version),
            _cell(status, STATUS_STYLES.get(status, "")),
            _cell(instant_text(about.since) if exact else ago(about.since, now), "" if exact else "dim"),
            _cell(waits if exact else waits.replace(head.run_id, short_id(head.run_id))),
            _cell(str(head.length)),
        )
    return table


def ledger_table(rows: Sequence[Mapping[str, object]], *, exact: bool) -> Table:
    """One row per record, in the order of the ledger. ``exact``: whole times, for programs."""
    numbers = ("seq", "step", "attempt", "ms")
    table = _table("seq", "time", "kind", "step", "node", "effect", "attempt", "status", "ms", "error", numbers=numbers)
    for row in rows:
        status = _word(row.get("status"))
        moment = _word(row.get("ended_at") or row.get("started_at"))
        table.add_row(
            _cell(_word(row.get("seq"))),
            _cell(moment if exact else moment[:23].replace("T", " "), "" if exact else "dim"),
            _cell(_word(row.get("kind"))),
            _cell(_word(row.get("step_id")).removeprefix(f"{row.get('run_id')}:")),
            _cell(_word(row.get("node_id"))),
            *_effect_cells(row),
            _cell(status, {"failed": "bold red", "completed": "green", "waiting": "yellow"}.get(status, "")),
            _cell(_milliseconds(row)),
            _cell(first_line(_word(row.get("error"))) or "", "red"),
        )
    return table


def _effect_cells(row: Mapping[str, object]) -> tuple[Text, Text]:
    """Type and attempt of a record's effect, if it has one."""
    effect = row.get("effect")
    if not isinstance(effect, Mapping):
        return _cell(""), _cell("")
    return _cell(_word(effect.get("type"))), _cell(_word(row.get("attempt")))


def _milliseconds(row: Mapping[str, object]) -> str:
    """From an effect's decision to its outcome."""
    started, ended = row.get("started_at"), row.get("ended_at")
    if row.get("effect") is None or not isinstance(started, str) or not isinstance(ended, str):
        return ""
    return f"{(parse_instant(ended) - parse_instant(started)) / 1000:.1f}"


def head_json(head: RunHead) -> JsonDict:
    """A head for programs; instants are ISO 8601 texts."""
    about = head.projection
    return {
        "run_id": head.run_id,
        "workflow_id": about.workflow_id,
        "workflow_version": about.workflow_version,
        "status": about.status,
        "in_doubt": any(is_doubt(wait.wait_key) for wait in about.waits),
        "since": instant_text(about.since),
        "created_at": instant_text(about.created_at),
        "waits": [
            {"wait_id": wait.wait_id, "reason": wait.reason, "wait_key": wait.wait_key, "until": _iso(wait.until)}
            for wait in about.waits
        ],
        "queue": about.queue,
        "priority": about.priority,
        "partition_key": about.partition_key,
        "parent_run_id": about.parent_run_id,
        "root_run_id": about.root_run_id,
        "session_id": about.session_id,
        "actor_id": about.actor_id,
        "tags": list(about.tags),
        "format": about.format,
        "length": head.length,
        "head_hash": head.head_hash,
        "epoch": head.epoch,
        "owner": head.owner,
        "lease_until": _iso(head.lease_until),
        "wake_at": _iso(head.wake_at),
        "held": head.held,
        "claims": head.claims,
    }


def state_json(state: RunState) -> JsonDict:
    """A run's state for programs: the fields of `RunState`."""
    values: JsonDict = asdict(state)
    return values


def run_page(
    state: RunState, head: RunHead, limits: Mapping[str, object], now: Instant
) -> tuple[Table, list[RenderableType]]:
    """A run for people: what is to say about it, and what it holds. Between the two stand its waits."""
    status = status_of(head)
    about = _about(
        ("run", state.run_id),
        ("workflow", state.workflow_id + (f" (version {state.workflow_version})" if state.workflow_version else "")),
        (
            "status",
            styled(
                (status, STATUS_STYLES.get(status, "")),
                f" since {_moment(head.projection.since, now)}",
                "" if state.status.is_terminal else f", at node {state.current_node!r}",
            ),
        ),
        ("steps", f"{state.step:,} ({state.length:,} record{'' if state.length == 1 else 's'})"),
        ("created", _moment(head.projection.created_at, now)),
        ("session", state.session_id),
        ("actor", state.actor_id),
        ("parent", state.parent_run_id),
        ("tags", ", ".join(state.tags)),
        ("held by", _holder(head, now)),
        ("wakes", _moment(head.wake_at, now) if head.wake_at is not None and head.owner is None else None),
        ("limits", _limit_words(limits)),
        ("error", first_line(state.error)),
    )
    parts: list[RenderableType] = []
    if state.output is not None:
        parts += [styled("\n", ("output", "bold")), pretty(shortened(state.output), indent=2)]
    variables = {name: value for name, value in state.vars.items() if name != "_limits"}
    if variables:
        parts += [styled("\n", ("vars", "bold")), pretty(shortened(variables), indent=2)]
    return about, parts


def plugin_table(infos: Iterable[PluginInfo]) -> Table:
    """One row per plugin. Hooks are shown without the words that all their names begin with."""
    table = _table("plugin", "distribution", "version", "state", "hooks")
    for info in infos:
        table.add_row(
            _cell(info.name, "bold"),
            _cell(info.distribution),
            _cell(info.version),
            _cell(info.state, {"loaded": "green", "broken": "bold red"}.get(info.state, "dim")),
            _cell(", ".join(hook.removeprefix("abstractruntime_") for hook in info.hooks)),
        )
    return table


def setting_table(entries: Iterable[SettingEntry]) -> Table:
    """One row per setting; what somebody set stands out from the defaults."""
    table = _table("setting", "value", "from")
    for entry in entries:
        default = entry.origin == "default"
        table.add_row(
            _cell(entry.key),
            _cell(entry.value, "" if default else "bold"),
            _cell(entry.origin, "dim" if default else ""),
        )
    return table


def finding_line(finding: Finding) -> Text:
    """One line of the doctor's report; below it, where there is something to do, what."""
    style = {"ok": "green", "warn": "bold yellow", "fail": "bold red"}[finding.verdict]
    line = styled((f"{finding.verdict:<4}", style), f"  {finding.about:<11}  {finding.says}")
    return line.append_text(styled("\n" + " " * 19, (finding.advice, "bold"))) if finding.advice else line


def short_id(run_id: str) -> str:
    """The first 8 characters of a uuid, any other id as it is."""
    return run_id[:8] if len(run_id) == 36 and run_id.count("-") == 4 else run_id


def ago(moment: Instant, now: Instant) -> str:
    """How long ago, or in how long: ``3 min ago``, ``in 2 h``."""
    seconds = (now - moment) / 1_000_000
    size, unit = next(
        ((limit, name) for limit, name in ((86400, "d"), (3600, "h"), (60, "min")) if abs(seconds) >= limit), (1, "s")
    )
    words = f"{int(abs(seconds) // size)} {unit}"
    if abs(seconds) < 1:
        return "now"
    return f"{words} ago" if seconds > 0 else f"in {words}"


def _table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="ellipsis", no_wrap=True)
    return table


def _about(*rows: tuple[str, str | Text | None]) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, styled(value) if isinstance(value, str) else value)
    return table


def _cell(text: str, style: str = "") -> Text:
    return styled((escaped(text, one_line=True), style))


def _word(value: object) -> str:
    return "" if value is None else str(value)


def _wait_words(reason: str, key: str, until: Instant | None) -> str:
    if reason == WaitReason.UNTIL and until is not None:
        return f"until {instant_text(until)[:19]}Z"
    return f"{reason} {key}" if key else reason


def _limit_words(limits: Mapping[str, object]) -> str:
    words = []
    for name, used in (("iterations", "current"), ("tokens", "estimated_used")):
        gauge = limits.get(name)
        if isinstance(gauge, Mapping) and gauge.get("max"):
            words.append(f"{name} {gauge.get(used)} of {gauge.get('max')}" + (" (!)" if gauge.get("warning") else ""))
    return ", ".join(words)


def _holder(head: RunHead, now: Instant) -> str:
    epoch = f" (epoch {head.epoch})"
    if head.owner is None or head.lease_until is None:
        return "nobody" + epoch
    over = head.lease_until <= now
    return f"{head.owner}, lease {'ran out' if over else 'until'} {_moment(head.lease_until, now)}{epoch}"


def seconds_text(moment: Instant) -> str:
    """An instant for people, to the second."""
    return f"{instant_text(moment)[:19].replace('T', ' ')} UTC"


def _moment(moment: Instant, now: Instant) -> str:
    return f"{seconds_text(moment)} ({ago(moment, now)})"


def _iso(moment: Instant | None) -> str | None:
    return None if moment is None else instant_text(moment)


def first_line(text: str | None) -> str | None:
    """The first line of an error, whose traceback stands in the ledger."""
    lines = (text or "").strip().splitlines()
    return lines[0] if lines else None

"""What is measured, how much of it, and beside which line."""

from __future__ import annotations

from dataclasses import dataclass, field

Arguments = dict[str, int | str | bool]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """``lengths`` of chains; ``total`` steps of a measurement, split into runs of that length; ``runs`` that park and
    are resumed; ``parked`` runs in the file that is resumed from; ``listed`` runs in the file that is queried."""

    rounds: int
    lengths: tuple[int, ...]
    total: int
    runs: int
    parked: int
    listed: int


FULL = Scale(rounds=5, lengths=(100, 1_000, 10_000), total=10_000, runs=1_000, parked=1_000, listed=10_000)
QUICK = Scale(rounds=2, lengths=(100, 1_000), total=1_000, runs=200, parked=200, listed=1_000)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A function of `lines` or `workloads` with its arguments. ``prepared_by``: a function that fills its folder first,
    once for all rounds. ``timed``: it is told when its process was started."""

    call: str
    arguments: Arguments | str = field(default_factory=dict)
    prepared_by: str | None = None
    prepared: dict[str, int] = field(default_factory=dict)
    timed: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table. ``key``: its name for the budget. ``unit``: of what the times are."""

    key: str
    title: str
    unit: str
    workload: Measurement
    line: Measurement | None = None


def rows_of(scale: Scale) -> list[Row]:
    """All rows, in the order in which they are measured."""
    return [
        *(_chain(f"chain-memory-{steps}", "memory", scale, steps) for steps in scale.lengths),
        *(_chain(f"chain-sqlite-{steps}", "sqlite", scale, steps) for steps in scale.lengths),
        _chain("kept-memory", "memory", scale, 1_000, ", 100 KB unchanged", kept_bytes=100_000),
        _chain("kept-sqlite", "sqlite", scale, 1_000, ", 100 KB unchanged", kept_bytes=100_000),
        _chain("costly-sqlite", "sqlite", scale, 1_000, ", outcomes at once", costly=True),
        Row(key="raw", title="raw append beside the SQLite line", unit="step", workload=_raw(scale), line=_line(scale)),
        _many("park", "memory", "start→park", scale),
        _many("park", "sqlite", "start→park", scale),
        _many("resume", "memory", "resume→done", scale),
        _many("resume", "sqlite", "resume→done", scale),
        _query("waiting", scale),
        _query("due", scale),
        _first_step(scale),
        _import("import", "import abstractruntime"),
        _import("import-runtime", "from abstractruntime import open_runtime"),
    ]


def _chain(key: str, store: str, scale: Scale, steps: int, said: str = "", **more: int | bool) -> Row:
    arguments: Arguments = {"store": store, "steps": steps, "total": scale.total, **more}
    return Row(
        key=key,
        title=f"chain of {steps:,} steps, {store}{said}",
        unit="step",
        workload=Measurement(call="workloads.chain", arguments=arguments),
        line=_line(scale)
        if store == "sqlite"
        else Measurement(call="lines.bare_loop", arguments={"steps": scale.total}),
    )


def _line(scale: Scale) -> Measurement:
    return Measurement(call="lines.sqlite_step", arguments={"steps": scale.total})


def _raw(scale: Scale) -> Measurement:
    return Measurement(call="lines.raw_append", arguments={"steps": scale.total})


def _many(call: str, store: str, title: str, scale: Scale) -> Row:
    arguments: Arguments = {"store": store, "runs": scale.runs}
    return Row(
        key=f"{call}-{store}",
        title=f"{title} of {scale.runs:,} runs, {store}",
        unit="run",
        workload=Measurement(call=f"workloads.{call}", arguments=arguments),
        line=Measurement(call=f"lines.sqlite_{call}", arguments={"runs": scale.runs}) if store == "sqlite" else None,
    )


def _query(what: str, scale: Scale) -> Row:
    return Row(
        key=f"find-{what}",
        title=f"a page of {what} runs of {scale.listed:,}, sqlite",
        unit="query",
        workload=Measurement(
            call=f"workloads.find_{what}",
            arguments={"queries": 200},
            prepared_by="workloads.prepare_parked",
            prepared={"runs": scale.listed},
        ),
    )


def _first_step(scale: Scale) -> Row:
    def of(module: str) -> Measurement:
        return Measurement(
            call=f"{module}.first_step",
            prepared_by=f"{module}.prepare_parked",
            prepared={"runs": scale.parked},
            timed=True,
        )

    return Row(
        key="first-step",
        title=f"process start to first resumed step, {scale.parked:,} parked",
        unit="process",
        workload=of("workloads"),
        line=of("lines"),
    )


def _import(key: str, statement: str) -> Row:
    return Row(key=key, title=statement, unit="process", workload=Measurement(call="import", arguments=statement))

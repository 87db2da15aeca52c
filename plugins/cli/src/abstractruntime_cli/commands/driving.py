"""Commands that move a run: `run`, `resume`, `retry`, `resolve`, `cancel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from abstractruntime.errors import NotWaiting, StoreError, UsageError
from abstractruntime.models import RunStatus

from ..drive import Advance, drive
from ..exits import ExitCode, exit_code_of_run
from ..inputs import read_json, read_vars
from ..invocation import Invocation
from ..lookup import find_run_id
from ..options import JsonFlag, MaxStepsOption, RunArgument, StoreOption, VerboseOption, WorkflowOption
from ..outcome import open_waits, outcome, settled
from ..terminal import note, show, show_json, styled
from ..views import state_json
from ..workflows import load_workflow

if TYPE_CHECKING:
    from abstractruntime.effects import EffectOutcome
    from abstractruntime.models import JsonValue, RunState, WaitState
    from abstractruntime.runtime import Runtime
    from abstractruntime.workflow import WorkflowSpec


def run(
    ctx: typer.Context,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:WORKFLOW", help="A workflow in a module of the working directory, or installed."
        ),
    ],
    *,
    variables: Annotated[
        str | None,
        typer.Option("--vars", metavar="JSON", help="The run's vars: JSON, @FILE, or - for standard input."),
    ] = None,
    single: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="KEY=VALUE", help="One of them; JSON where it reads as JSON. May be repeated."),
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="To find it by. May be repeated.")
    ] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="The session it belongs to.")] = None,
    run_id: Annotated[str | None, typer.Option("--run-id", metavar="ID", help="Its id. Default: a new uuid.")] = None,
    carry_on: Annotated[
        str | None, typer.Option("--continue", metavar="RUN", help="Start nothing: carry that run on.")
    ] = None,
    max_steps: MaxStepsOption = None,
    as_json: JsonFlag = False,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """Start a run and drive it until it waits or ends.

    Ctrl-C stops it after the present step; it can be carried on. The run's module may hold a mapping `effect_handlers`
    (effect type to handler) for effects of its own.
    """
    invocation = Invocation.of(ctx, store, verbose=verbose)
    if carry_on is not None:
        _refuse_with_continue(
            {"--vars": variables, "--var": single, "--tag": tags, "--session": session, "--run-id": run_id}
        )
    values = read_vars(variables, single or ())
    invocation.named = load_workflow(reference)
    workflow = invocation.named.workflow
    with invocation.driver(must_exist=carry_on is not None) as runtime:
        if carry_on is not None:
            there = find_run_id(runtime.store, carry_on)
        else:
            there = runtime.start(workflow=workflow, vars=values, tags=tags or (), session_id=session, run_id=run_id)
            note(f"run {there} of {workflow.workflow_id} started in {invocation.store_url.text}")
        return _drive(invocation, runtime, workflow, there, max_steps=max_steps, as_json=as_json)


def resume(
    ctx: typer.Context,
    run_text: RunArgument,
    *,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Which wait. Not needed where there is one.")
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--json", metavar="PAYLOAD", help="The answer: JSON, @FILE, or - for standard input.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help='The answer {"text": TEXT}.')] = None,
    wait_id: Annotated[
        str | None, typer.Option("--wait-id", metavar="ID", help="Which wait, where several have one key.")
    ] = None,
    workflow: WorkflowOption = None,
    max_steps: MaxStepsOption = None,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """Answer what a run waits for, and drive it on."""
    invocation = Invocation.of(ctx, store, verbose=verbose)
    answer = _answer(payload, text)
    invocation.name_workflow(workflow)
    with invocation.driver(must_exist=True) as runtime:
        run_id = find_run_id(runtime.store, run_text)
        state = runtime.get_state(run_id)
        wait_key = key if key is not None or wait_id is not None else _only_wait(state).wait_key
        spec = invocation.workflow_of(runtime, state)

        def first(watched: WorkflowSpec, steps: int) -> RunState:
            return runtime.resume(
                workflow=watched, run_id=run_id, wait_key=wait_key, payload=answer, wait_id=wait_id, max_steps=steps
            )

        return _drive(invocation, runtime, spec, run_id, max_steps=max_steps, first=first)


def retry(
    ctx: typer.Context,
    run_text: RunArgument,
    *,
    workflow: WorkflowOption = None,
    max_steps: MaxStepsOption = None,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """Try the failed step of a run again, and drive it on."""
    invocation = Invocation.of(ctx, store, verbose=verbose)
    invocation.name_workflow(workflow)
    with invocation.driver(must_exist=True) as runtime:
        run_id = find_run_id(runtime.store, run_text)
        spec = invocation.workflow_of(runtime, runtime.get_state(run_id))
        runtime.retry(run_id)
        return _drive(invocation, runtime, spec, run_id, max_steps=max_steps)


def resolve(
    ctx: typer.Context,
    run_text: RunArgument,
    *,
    done: Annotated[
        str | None,
        typer.Option("--done", metavar="JSON", help="It happened; this is its result: JSON, @FILE, or - for stdin."),
    ] = None,
    failed: Annotated[
        str | None, typer.Option("--failed", metavar="TEXT", help="It did not happen, and shall not: the run fails.")
    ] = None,
    again: Annotated[bool, typer.Option("--retry", help="It did not happen: do it now.", show_default=False)] = False,
    wait_id: Annotated[
        str | None, typer.Option("--wait-id", metavar="ID", help="Which wait, where several are open.")
    ] = None,
    workflow: WorkflowOption = None,
    max_steps: MaxStepsOption = None,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """Settle a run in doubt: say what became of its interrupted effect.

    Look at the evidence first (`art show RUN`), and ask the other side. The answer is recorded; where the workflow's
    code is known the run is driven on.
    """
    invocation = Invocation.of(ctx, store, verbose=verbose)
    verdict = _verdict(done, failed, again=again)
    invocation.name_workflow(workflow)
    with invocation.driver(must_exist=True) as runtime:
        run_id = find_run_id(runtime.store, run_text)
        state = runtime.resolve(run_id, verdict, wait_id=wait_id)
        spec = invocation.known_workflow_of(runtime, state)
        if spec is None:
            show(*settled(state, invocation.hints))
            return ExitCode.DONE
        return _drive(invocation, runtime, spec, run_id, max_steps=max_steps)


def cancel(
    ctx: typer.Context,
    run_text: RunArgument,
    *,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the ledger.")
    ] = None,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """Cancel a run. One that has ended stays as it is."""
    invocation = Invocation.of(ctx, store, verbose=verbose)
    with invocation.reader() as runtime:
        run_id = find_run_id(runtime.store, run_text)
        state = runtime.cancel_run(run_id, reason=reason)
    show(styled("run ", (run_id, "bold"), f" is {_cancelled_words(state)}"))
    return ExitCode.DONE


def _drive(
    invocation: Invocation,
    runtime: Runtime,
    workflow: WorkflowSpec,
    run_id: str,
    *,
    max_steps: int | None,
    first: Advance | None = None,
    as_json: bool = False,
) -> ExitCode:
    """Drive the run, say where it stands, and give that as exit code."""
    try:
        driven = drive(runtime, workflow, run_id, max_steps=max_steps, first=first)
    except StoreError:
        show(f"run {run_id} is as its last commit left it", invocation.hints.go_on(run_id), stderr=True)
        raise
    if as_json:
        show_json(state_json(driven.state))
    else:
        show(*outcome(driven, invocation.hints_for(runtime, driven.state)))
    return ExitCode.INTERRUPTED if driven.interrupted else exit_code_of_run(driven.state)


def _cancelled_words(state: RunState) -> str:
    if state.status is RunStatus.CANCELLED:
        return "cancelled"
    if state.status.is_terminal:
        return f"{state.status} already, so there is nothing to cancel"
    return f"{state.status} and held by somebody; it is cancelled when its present effect has an outcome"


def _refuse_with_continue(given: Mapping[str, object]) -> None:
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} is for a new run, and --continue starts none", hint=f"leave {option} out", option=option
            )


def _answer(payload: str | None, text: str | None) -> JsonValue:
    if (payload is None) == (text is None):
        raise UsageError(
            "an answer is needed, once", hint="give --json PAYLOAD or --text TEXT, not both", option="--json"
        )
    return {"text": text} if payload is None else read_json(payload, "--json")


def _only_wait(state: RunState) -> WaitState:
    waits = open_waits(state)
    if not waits:
        raise NotWaiting(
            f"run {state.run_id} waits for no answer, it is {state.status}",
            hint=f"look at it: art show {state.run_id}",
            run_id=state.run_id,
        )
    if len(waits) > 1:
        listed = ", ".join(f"{wait.wait_key} (wait id {wait.wait_id})" for wait in waits)
        raise UsageError(
            f"run {state.run_id} has {len(waits)} open waits: {listed}",
            hint="say which: --key KEY, or --wait-id ID",
            run_id=state.run_id,
        )
    return waits[0]


def _verdict(done: str | None, failed: str | None, *, again: bool) -> EffectOutcome | Literal["retry"]:
    if [done is not None, failed is not None, again].count(True) != 1:
        raise UsageError(
            "what became of the effect has to be said, once",
            hint="give one of --done JSON, --failed TEXT and --retry",
            option="--done",
        )
    if again:
        return "retry"
    from abstractruntime.effects import EffectOutcome

    return (
        EffectOutcome.completed(read_json(done, "--done")) if done is not None else EffectOutcome.failed(failed or "")
    )

"""Commands that look and change nothing: `runs`, `show`, `ledger`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from abstractruntime.models import RunStatus

from ..exits import ExitCode
from ..hints import is_doubt
from ..invocation import Invocation
from ..lookup import find_run_id, head_of
from ..options import JsonFlag, RunArgument, StoreOption, VerboseOption
from ..outcome import waits
from ..terminal import console, note, show, show_json
from ..views import head_json, ledger_table, run_page, run_table, state_json

if TYPE_CHECKING:
    from abstractruntime.store.contract import RunHead, RunQuery, Store

_PAGE = 1000


def runs(
    ctx: typer.Context,
    *,
    status: Annotated[
        list[RunStatus] | None, typer.Option("--status", help="In that status. May be repeated.", show_default=False)
    ] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", "-w", metavar="ID", help="Of that workflow id.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Waiting for something.", show_default=False)] = False,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Waiting for that key.")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="With all these tags.")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="Of that session.")] = None,
    in_doubt: Annotated[
        bool,
        typer.Option("--in-doubt", help="Parked because nobody knows whether an effect happened.", show_default=False),
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most N of them.")] = 20,
    as_json: JsonFlag = False,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """List runs, those whose status changed last first."""
    invocation = Invocation.of(ctx, store, verbose=verbose)
    if invocation.store_is_missing():
        if as_json:
            show_json([])
        note(f"no runs: {invocation.store_url.text} does not exist yet")
        return ExitCode.DONE
    from abstractruntime.store.contract import RunQuery

    statuses = {one.value for one in status or ()} | ({"waiting"} if waiting or in_doubt else set())
    query = RunQuery(
        status=tuple(sorted(statuses)) or None,
        workflow_id=workflow,
        wait_reason="job" if in_doubt else None,
        wait_key=key,
        session_id=session,
        tags=tuple(tags or ()),
        descending=True,
    )
    with invocation.open_store() as opened:
        matching = _matching(opened, query, in_doubt=in_doubt, page=min(limit + 1, _PAGE))
        found = list(islice(matching, limit + 1))
        now = opened.now()
    shown, more = found[:limit], len(found) > limit
    if as_json:
        show_json([head_json(head) for head in shown])
    elif shown:
        show(run_table(shown, now, exact=not console().is_terminal))
    else:
        note("no runs" + (" match" if query != RunQuery(descending=True) else f" in {invocation.store_url.text}"))
    if more:
        note(f"only the first {limit} are shown; --limit N shows more")
    return ExitCode.DONE


def show_run(
    ctx: typer.Context,
    run_text: RunArgument,
    *,
    as_json: JsonFlag = False,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """Show where a run stands: status, waits, limits, holder, vars.

    Long values are cut; `--json` has everything.
    """
    invocation = Invocation.of(ctx, store, verbose=verbose)
    with invocation.reader() as runtime:
        run_id = find_run_id(runtime.store, run_text)
        state = runtime.get_state(run_id)
        head = head_of(runtime.store, state)
        limits, now = runtime.get_limit_status(run_id), runtime.store.now()
        if as_json:
            show_json({**state_json(state), "limits": limits, "head": head_json(head)})
        else:
            about, values = run_page(state, head, limits, now)
            asked = waits(state, invocation.hints_for(runtime, state))
            show(about, *(["", *asked] if asked else []), *values)
    return ExitCode.DONE


def ledger(
    ctx: typer.Context,
    run_text: RunArgument,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line, whole records.", show_default=False)
    ] = False,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> ExitCode:
    """List what a run did, one line per record."""
    invocation = Invocation.of(ctx, store, verbose=verbose)
    with invocation.reader() as runtime:
        rows = runtime.get_ledger(find_run_id(runtime.store, run_text))
        if as_json:
            show_json(rows, lines=True)
        else:
            show(ledger_table(rows, exact=not console().is_terminal))
    return ExitCode.DONE


def _matching(store: Store, query: RunQuery, *, in_doubt: bool, page: int) -> Iterator[RunHead]:
    """Heads in the query's order. Doubt is a prefix of a wait's key, which the store's query does not know."""
    from msgspec import structs

    query = structs.replace(query, limit=_PAGE if in_doubt else page)
    while True:
        found = store.find(query)
        for head in found.items:
            if not in_doubt or any(is_doubt(wait.wait_key) for wait in head.projection.waits):
                yield head
        if found.cursor is None:
            return
        query = structs.replace(query, cursor=found.cursor)

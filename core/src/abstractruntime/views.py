"""What users see of a run: a `RunState` made from the fold."""

from __future__ import annotations

import traceback
from typing import Any, cast

from .codec import thaw
from .errors import AbstractRuntimeError
from .journal import Folded, Wait
from .models import JsonDict, RunState, WaitState, instant_text


def view(state: Folded, vars: dict[str, Any]) -> RunState:
    """The state with these ``vars``, which become part of it: a draft for nodes and handlers, a copy for users."""
    waits = tuple(map(wait_view, state.waits)) if state.waits else ()
    return RunState(
        run_id=state.run_id,
        workflow_id=state.workflow_id,
        status=state.status,
        current_node=state.node,
        vars=vars,
        waiting=waits[0] if waits else None,
        output=cast("JsonDict | None", thaw(state.output)) if state.output is not None else None,
        error=state.error,
        created_at=instant_text(state.created_at),
        updated_at=instant_text(state.updated_at),
        actor_id=state.actor_id,
        session_id=state.session_id,
        parent_run_id=state.parent_run_id,
        workflow_version=state.workflow_version,
        waits=waits,
        tags=tuple(state.tags),
        step=state.step,
        length=state.length,
    )


def copy_view(state: Folded) -> RunState:
    """The state as a copy that may be changed freely."""
    return view(state, cast(JsonDict, thaw(state.vars)))


def wait_view(wait: Wait) -> WaitState:
    """An open wait as users see it."""
    return WaitState(
        reason=wait.reason,
        wait_key=wait.wait_key,
        until=None if wait.until is None else instant_text(wait.until),
        resume_to_node=wait.resume_to_node,
        result_key=wait.result_key,
        prompt=wait.prompt,
        choices=list(wait.choices) if wait.choices is not None else None,
        allow_free_text=wait.allow_free_text,
        details=cast("JsonDict | None", thaw(wait.details)) if wait.details is not None else None,
        wait_id=wait.wait_id,
    )


MAX_TRACEBACK_CHARS = 20_000


def describe_error(error: BaseException) -> JsonDict:
    """An exception as it stands in the ledger: code, type, message, hint and traceback."""
    described: JsonDict = {
        "code": error.code if isinstance(error, AbstractRuntimeError) else "exception",
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": clean_text(_message(error)),
    }
    if isinstance(error, AbstractRuntimeError) and error.hint:
        described["hint"] = error.hint
    text = "".join(traceback.format_exception(error))
    described["traceback"] = clean_text(text[-MAX_TRACEBACK_CHARS:])
    return described


def _message(error: BaseException) -> str:
    if isinstance(error, AbstractRuntimeError):
        return str(error)
    try:
        text = str(error)
    except Exception as failed:  # noqa: BLE001  # an exception whose own __str__ raises must not hide what happened
        text = f"(its message cannot be read: {type(failed).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def clean_text(text: str) -> str:
    """Without lone surrogates (file names can hold them), which no record can."""
    return text.encode("utf-8", "backslashreplace").decode()

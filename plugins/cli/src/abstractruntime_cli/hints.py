"""The commands that a message offers, ready to be copied into the same shell."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abstractruntime.models import RunState, WaitReason, WaitState

from .terminal import styled

if TYPE_CHECKING:
    from rich.text import Text

DOUBT_KEYS = ("doubt:", "poison:")
"""How the keys of the waits begin whose question is whether an effect happened."""
ANY_WORKFLOW = "MODULE:WORKFLOW"


def is_doubt(wait_key: str | None) -> bool:
    """Whether a wait of that key asks whether an interrupted effect happened."""
    return bool(wait_key) and str(wait_key).startswith(DOUBT_KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What the offered commands need to mean the same thing again.

    ``store``: the ``--store`` of this command, None where it was not given. ``workflow``: how the workflow's code was
    named, ``MODULE:WORKFLOW`` where nobody said, None where a plugin registers it and nothing has to be said.
    """

    store: str | None = None
    workflow: str | None = ANY_WORKFLOW

    def go_on(self, run_id: str, label: str = "go on") -> Text:
        """Carry a run on that does not wait for an answer."""
        return self._line(label, "run", self.workflow or ANY_WORKFLOW, "--continue", run_id)

    def ledger(self, run_id: str) -> Text:
        return self._line("what it did", "ledger", run_id)

    def retry(self, run_id: str) -> Text:
        return self._line("try that step again", "retry", run_id, *self._workflow())

    def answer(self, state: RunState, wait: WaitState, *, alone: bool) -> Text:
        """Answer a wait. ``alone``: it is the only one, so that its key need not be said."""
        if is_doubt(wait.wait_key):
            more = "   (or --done JSON, or --failed TEXT)"
            return self._line("settle", "resolve", state.run_id, "--retry", *self._workflow()).append_text(styled(more))
        if wait.reason is WaitReason.UNTIL:
            return self.go_on(state.run_id, "then")
        words = [state.run_id]
        if wait.wait_key and (not alone or wait.reason is not WaitReason.USER):
            words += ["--key", wait.wait_key]
        if not alone and wait.wait_id:
            words += ["--wait-id", wait.wait_id]
        words += self._example(wait)
        return self._line("answer", "resume", *words, *self._workflow())

    @staticmethod
    def _example(wait: WaitState) -> list[str]:
        if wait.reason is not WaitReason.USER:
            return ["--json", "{}"]
        return ["--json", json.dumps(wait.choices[0])] if wait.choices else ["--text", "ANSWER"]

    def _workflow(self) -> tuple[str, ...]:
        return ("--workflow", self.workflow) if self.workflow else ()

    def _line(self, label: str, *words: str) -> Text:
        store = ("--store", self.store) if self.store else ()
        return styled(f"  {label}: ", (shlex.join(["art", *words, *store]), "bold cyan"))

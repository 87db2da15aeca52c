"""Read, check, approve and pay a folder of invoices on a local LLM, through the death of the worker.

Each letter is a run. The worker that drives them is killed with SIGKILL in the middle of a payment; another one takes
over. At the end it is proved, from the ledgers and from the payments file, that each accepted invoice was paid once.
Stop it with Ctrl-C, or kill it: the next call goes on where it stood.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from approvals import AnswersFile, Approver, NoAnswer, Person
from batch import Batch, FolderInUse, load_batch, new_batch, sole_use
from driver import Driver, Stuck
from local_llm import LocalLLMUnavailable, local_llm
from payments import PaymentsFile
from proof import RunEvidence, contradictions, gather
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from screen import Screen, money_text
from worker import WorkerPlace

from abstractruntime import open_runtime
from abstractruntime.config import load_settings
from abstractruntime.errors import AbstractRuntimeError
from abstractruntime.urls import redact_url

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROVED, NOT_PROVED, CANNOT_GO_ON, INTERRUPTED = 0, 1, 2, 130
_WIDTH_WITHOUT_TERMINAL = 200

# Short, so that nobody has to wait for a dead worker's lease here; the default, 30 s, suits machines that may be slow
# to answer. Runs are started for the worker, so they are not kept for their starter; and a worker that finds a run
# leased says so at once.
_TERMS = {
    "ABSTRACTRUNTIME_RUNTIME__LEASE_S": "2",
    "ABSTRACTRUNTIME_RUNTIME__START_GRACE_S": "0",
    "ABSTRACTRUNTIME_RUNTIME__LEASE_WAIT_S": "0.2",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or continue the demo. Returns 0 when the proof holds, 1 when not, 2 when it cannot go on, 130 on Ctrl-C."""
    options = _options().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_WITHOUT_TERMINAL)
    try:
        with sole_use(options.dir):
            return _demo(options, Screen(console))
    except (KeyboardInterrupt, EOFError):
        console.print("\nInterrupted. What was done is kept: the same command goes on from here.", highlight=False)
        return INTERRUPTED
    except (FolderInUse, LocalLLMUnavailable, NoAnswer, Stuck, AbstractRuntimeError, OSError) as error:
        console.print(Text(f"\n{error}", style="bold red"))
        return CANNOT_GO_ON


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", metavar="URL", help="an OpenAI-compatible server instead of the embedded LLM")
    parser.add_argument("--model", metavar="NAME", help="the model to ask there")
    parser.add_argument("--api-key", metavar="KEY", help="its key (better: the variable OPENAI_API_KEY)")
    parser.add_argument("--answers", metavar="FILE", type=Path, help="answer from this file, not at the terminal")
    parser.add_argument("--letters", metavar="FOLDER", type=Path, default=HERE / "letters", help="*.txt files to read")
    parser.add_argument(
        "--dir", metavar="FOLDER", type=Path, default=ROOT / ".demo-invoices", help="where state is kept"
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew, even if the last batch is unfinished")
    return parser


def _demo(options: argparse.Namespace, screen: Screen) -> int:
    batch = _batch(options, screen)
    payments = PaymentsFile(options.dir / batch.name / "payments.jsonl")
    payments.path.parent.mkdir(exist_ok=True)
    approver = _approver(options, screen)
    url = _store_url(options.dir)
    with ExitStack() as open_parts:
        environment = _environment(options, url, screen, open_parts)
        settings = load_settings(environ={**os.environ, **environment})
        runtime = open_parts.enter_context(open_runtime(settings=settings))
        place = WorkerPlace(letters=Path(batch.letters), payments=payments.path, environment=environment)
        driver = open_parts.enter_context(
            Driver(folder=options.dir, batch=batch, runtime=runtime, place=place, approver=approver, screen=screen)
        )
        driver.work_through()
        run_ids = [batch.run_id(file) for file in batch.files]
        evidence = gather(runtime, run_ids, payments.all())
        screen.print(_table(evidence))
        against = contradictions(evidence, payments.all())
        _conclude(evidence, against, payments, screen)
        if against or not all(one.finished for one in evidence):
            return NOT_PROVED
        driver.finish()
        return PROVED


def _batch(options: argparse.Namespace, screen: Screen) -> Batch:
    letters = options.letters.resolve()
    store = redact_url(_store_url(options.dir))
    last = load_batch(options.dir)
    same = last is not None and not last.finished and (last.letters, last.store) == (str(letters), store)
    if last is not None and same and not options.fresh:
        screen.say(f"Going on with the unfinished batch {last.name}.")
        return last
    batch = new_batch(options.dir, letters, store)
    if not batch.files:
        raise NoAnswer(f"there is no letter (*.txt) in {letters}")
    before = (
        "" if last is None else f" ({last.name} is finished)" if last.finished else f" ({last.name} is left as it is)"
    )
    screen.say(f"A new batch, {batch.name}: {len(batch.files)} letters{before}.")
    return batch


def _approver(options: argparse.Namespace, screen: Screen) -> Approver:
    if options.answers is None and sys.stdin.isatty() and screen.console.is_terminal:
        return Person(screen.console)
    path = options.answers or HERE / "answers.json"
    why = "" if options.answers else "There is no terminal to ask a person at. "
    screen.say(f"{why}Where code is in doubt, answers come from {_short(path)}.")
    return AnswersFile(path)


def _store_url(folder: Path) -> str:
    return os.environ.get("ABSTRACTRUNTIME_STORE") or f"sqlite:///{quote(str((folder / 'runs.db').resolve()))}"


def _environment(options: argparse.Namespace, url: str, screen: Screen, open_parts: ExitStack) -> dict[str, str]:
    """The variables that tell runtime and worker what to use; those that are set already stand."""
    if url.startswith("memory:"):
        raise NoAnswer("a store in memory cannot be shared with the worker: unset ABSTRACTRUNTIME_STORE")
    if options.base_url:
        base_url, model = options.base_url, options.model or "default"
        key = options.api_key or os.environ.get("OPENAI_API_KEY")
        screen.say(f"LLM: {model} at {redact_url(base_url)}")
    else:
        llm = open_parts.enter_context(local_llm())
        base_url, model, key = llm.base_url, llm.model, None
        screen.say(f"LLM: {model}, embedded, at {base_url} (process {llm.pid})")
    option = "ABSTRACTRUNTIME_PLUGIN__ABSTRACTCORE__"
    found = {"ABSTRACTRUNTIME_STORE": url, f"{option}BASE_URL": base_url, f"{option}MODEL": model}
    if key:
        found[f"{option}API_KEY"] = key
    return {**{name: os.environ.get(name, value) for name, value in _TERMS.items()}, **found}


def _table(evidence: Sequence[RunEvidence]) -> Table:
    table = Table(title="What became of the letters", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("file", no_wrap=True)
    table.add_column("vendor", no_wrap=True, overflow="ellipsis")
    table.add_column("total", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("due", no_wrap=True)
    table.add_column("approved by", no_wrap=True)
    table.add_column("steps", justify="right")
    table.add_column("ms", justify="right")
    for one in evidence:
        table.add_row(*map(Text, _cells(one)), style="" if one.accepted else "dim")
    return table


def _cells(one: RunEvidence) -> tuple[str, ...]:
    file, steps, work = Path(one.file).stem, str(one.state.step), f"{one.work_ms:,.0f}"
    if not one.finished:
        return (file, f"({one.state.status})", "", "", "", "", steps, work)
    if not one.accepted:
        return (file, f"rejected by {one.decided_by}", "", "", "", "–", steps, work)
    vendor, total, currency, due = (one.invoice[name] for name in ("vendor", "total", "currency", "due_date"))
    return (file, str(vendor), money_text(str(total)), str(currency), str(due or "–"), one.decided_by, steps, work)


def _conclude(evidence: Sequence[RunEvidence], against: Sequence[str], payments: PaymentsFile, screen: Screen) -> None:
    for reason in against:
        screen.say(f"NOT PROVED  {reason}", style="bold red")
    if against:
        return
    unfinished = [one for one in evidence if not one.finished]
    if unfinished:
        screen.say(f"{len(unfinished)} letters are not done. The same command goes on with them.", style="bold red")
        return
    accepted = [one for one in evidence if one.accepted]
    by_code = sum(one.decided_by == "code" for one in accepted)
    records = sum(one.records for one in evidence)
    reconciled = [one.file for one in accepted if one.reconciled]
    screen.say(
        f"Proved: {len(accepted)} invoices accepted ({by_code} by code alone), each with one completed payment in its "
        f"ledger and one line under the same key in {_short(payments.path)}; "
        f"{len(evidence) - len(accepted)} letters rejected, none paid.",
        style="bold green",
    )
    if reconciled:
        screen.say(f"Found done after a crash, and not repeated: {', '.join(reconciled)}.", style="green")
    screen.say(f"The hash chains of {len(evidence)} ledgers hold, {records} records.", style="green")


def _short(path: Path) -> str:
    resolved = path.resolve()
    return str(resolved.relative_to(Path.cwd())) if resolved.is_relative_to(Path.cwd()) else str(resolved)


if __name__ == "__main__":
    sys.exit(main())

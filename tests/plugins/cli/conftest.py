"""A working directory with a module of workflows in it, and ways to call the command line there."""

import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from abstractruntime_cli.app import app

WORKFLOWS = '''
    """Workflows that the tests name on the command line."""

    import resource
    import time
    from pathlib import Path

    from abstractruntime import Effect, EffectOutcome, EffectSpec, EffectType, Recovery, StepPlan, WorkflowSpec


    def plan(node, next_node=None, effect=None, output=None):
        return StepPlan(node_id=node, next_node=next_node, effect=effect, complete_output=output)


    def hello(run, ctx):
        return plan("hello", output={"greeting": f"hello {run.vars.get('name', 'nobody')}"})


    greet = WorkflowSpec(workflow_id="greet", entry_node="hello", nodes={"hello": hello})


    def ask(run, ctx):
        payload = {"prompt": "Pay 120 EUR to ACME?", "choices": ["yes", "no"]}
        return plan("ask", "end", Effect(EffectType.ASK_USER, payload, "answer"))


    def end(run, ctx):
        return plan("end", output={"answer": run.vars["answer"]})


    review = WorkflowSpec(workflow_id="review", entry_node="ask", nodes={"ask": ask, "end": end}, version="2")


    def listen(run, ctx):
        return plan("listen", "end", Effect(EffectType.WAIT_EVENT, {"wait_key": "payment"}, "answer"))


    event = WorkflowSpec(workflow_id="event", entry_node="listen", nodes={"listen": listen, "end": end})


    def charge(run, ctx):
        if not Path("card").exists():
            raise ValueError("the card has expired")
        return plan("charge", output={"charged": True})


    flaky = WorkflowSpec(workflow_id="flaky", entry_node="charge", nodes={"charge": charge})


    def sleep_in(run, ctx):
        return plan("sleep_in", "end", Effect(EffectType.WAIT_UNTIL, {"until": run.vars["until"]}, "answer"))


    timer = WorkflowSpec(workflow_id="timer", entry_node="sleep_in", nodes={"sleep_in": sleep_in, "end": end})


    def count(run, ctx):
        run.vars["n"] = run.vars.get("n", 0) + 1
        return plan("count", output={"n": run.vars["n"]}) if run.vars["n"] == 5 else plan("count", "count")


    five = WorkflowSpec(workflow_id="five", entry_node="count", nodes={"count": count})


    def work(run, ctx):
        run.vars["n"] = run.vars.get("n", 0) + 1
        if run.vars["n"] > run.vars["times"]:
            return plan("work", output={"n": run.vars["times"]})
        payload = {"n": run.vars["n"], "seconds": run.vars["seconds"]}
        return plan("work", "work", Effect(run.vars.get("effect", "slow"), payload))


    slow = WorkflowSpec(workflow_id="slow", entry_node="work", nodes={"work": work})


    def sleep(run, effect, ctx):
        with Path("effects").open("a") as log:
            log.write(f"begin {effect.payload['n']}\\n")
        time.sleep(effect.payload["seconds"])
        with Path("effects").open("a") as log:
            log.write(f"end {effect.payload['n']}\\n")
        return EffectOutcome.completed({})


    def die(run, effect, ctx):
        raise KeyboardInterrupt


    def fill(run, effect, ctx):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        return EffectOutcome.completed({})


    effect_handlers = {
        "fill": EffectSpec(handler=fill, recovery=Recovery.IDEMPOTENT),
        "die": EffectSpec(handler=die, recovery=Recovery.ASK),
        "slow": EffectSpec(handler=sleep, recovery=Recovery.IDEMPOTENT),
        "pay": EffectSpec(handler=sleep, recovery=Recovery.ASK),
    }
'''

# Only what a process needs to start: a variable or a file of settings on this machine must not reach the tests.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONUTF8": "1", "PYTHONWARNINGS": "error"}


@dataclass(frozen=True)
class Folder:
    """A working directory in which the command line is called."""

    path: Path

    def art(self, *words: str, stdin: str | None = None) -> Result:
        """Call the command line in this process, without a terminal."""
        return CliRunner().invoke(app, list(words), input=stdin)

    def run_id(self, result: Result) -> str:
        """The id in `run ID of WORKFLOW started in …`."""
        return result.stderr.split()[1]

    def process(self, *words: str, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start the command line as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", "from abstractruntime_cli.app import main; main()", *words],
            cwd=self.path, env={**ENVIRONMENT, **(environment or {})}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def ended(self, *words: str, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run the command line as a process of its own, to its end."""
        process = self.process(*words, environment=environment)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def run_in_doubt(self) -> str:
        """Leave a run behind of which nobody knows whether its effect happened."""
        run_id = self.run_id(self.art("run", "demo:slow", "--vars", '{"times": 1, "seconds": 0, "effect": "die"}'))
        assert self.art("run", "demo:slow", "--continue", run_id).exit_code == 3
        return run_id

    def on_terminal(self, *words: str, columns: int) -> tuple[int, str]:
        """Run the command line on a terminal of its own: its exit code, and all that the terminal was sent."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", "from abstractruntime_cli.app import main; main()", *words],
            cwd=self.path, env={**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": str(columns)},
            stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        seen = bytearray()
        while chunk := _read(master):
            seen += chunk
        os.close(master)
        return process.wait(timeout=30), seen.decode()

    def wait_for_line(self, line: str) -> None:
        """Wait until the slow effect has logged ``line``: a real process can only be watched, not told the time."""
        log = self.path / "effects"
        deadline = time.monotonic() + 30
        while not (log.exists() and line in log.read_text().splitlines()):
            assert time.monotonic() < deadline, f"no {line!r} within 30 s"
            time.sleep(0.02)


def _read(terminal: int) -> bytes:
    """What the terminal was sent next, nothing once its other side is closed (an error on Linux, an end elsewhere)."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    for name in [name for name in os.environ if name.startswith("ABSTRACTRUNTIME_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.py").write_text(textwrap.dedent(WORKFLOWS))
    path, loaded, interrupt = list(sys.path), set(sys.modules), signal.getsignal(signal.SIGINT)
    sys.modules.pop("demo", None)
    yield Folder(tmp_path)
    sys.path[:] = path
    for name in set(sys.modules) - loaded:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    assert signal.getsignal(signal.SIGINT) is interrupt


@pytest.fixture
def write(folder: Folder) -> Callable[[str, str], None]:
    """Write a module or file into the working directory."""

    def write(name: str, text: str) -> None:
        (folder.path / name).write_text(textwrap.dedent(text))

    return write


@pytest.fixture
def plugin(folder: Folder) -> Callable[[str, str], dict[str, str]]:
    """Install a plugin of one module into the working directory, as a wheel would leave it; gives the environment
    in which it is found."""

    def install(word: str, source: str) -> dict[str, str]:
        (folder.path / f"{word}_plugin.py").write_text(source)
        info = folder.path / f"abstractruntime_{word}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: abstractruntime-{word}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[abstractruntime]\n{word} = {word}_plugin\n")
        return {"PYTHONPATH": str(folder.path)}

    return install

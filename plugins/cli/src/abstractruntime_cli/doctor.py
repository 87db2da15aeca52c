"""What can keep a run from running on this machine, checked one thing after the other."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from abstractruntime.errors import AbstractRuntimeError
from abstractruntime.store.contract import Message, RunQuery, Store, StoreUrl

from .hints import is_doubt
from .invocation import Invocation

MIN_PYTHON = (3, 11)
LOW_SPACE_MB = 200
CLOCK_DRIFT_S = 5.0
EARLIEST_SANE_S = 1_735_689_600
"""2025-01-01: a machine whose clock is before it has lost its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report. ``advice``: what to do about it, "" where there is nothing to do."""

    verdict: Literal["ok", "warn", "fail"]
    about: str
    says: str
    advice: str = ""


def examine(invocation: Invocation, *, clock: Callable[[], float] = time.time) -> Iterator[Finding]:
    """All findings, as they come. Nothing is made or changed: a store that is not there yet is left like that."""
    yield _python()
    yield from _versions()
    yield _clock(clock())
    try:
        url = invocation.store_url
    except AbstractRuntimeError as error:
        yield Finding(verdict="fail", about="settings", says=error.message, advice=error.hint or "correct it")
        return
    yield Finding(verdict="ok", about="settings", says=f"store {url.text} ({invocation.settings.origin('store')})")
    yield from _plugins(invocation, url)
    yield from _store(invocation, url, clock)


def _python() -> Finding:
    says = f"{platform.python_implementation()} {platform.python_version()} in {sys.prefix}"
    if sys.version_info < MIN_PYTHON:
        wanted = ".".join(map(str, MIN_PYTHON))
        return Finding(verdict="fail", about="python", says=says, advice=f"use Python {wanted} or newer")
    return Finding(verdict="ok", about="python", says=says)


def _versions() -> Iterator[Finding]:
    core, own = version("abstractruntime"), version("abstractruntime-cli")
    says = f"abstractruntime {core}, command line {own}"
    if core.partition(".")[0] != own.partition(".")[0]:
        yield Finding(
            verdict="fail",
            about="versions",
            says=says,
            advice="install both of one major version: pip install -U abstractruntime-cli",
        )
    elif core != own:
        yield Finding(
            verdict="warn", about="versions", says=says, advice="all distributions share one version: update the older"
        )
    else:
        yield Finding(verdict="ok", about="versions", says=says)


def _clock(seconds: float) -> Finding:
    says = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    if seconds < EARLIEST_SANE_S:
        return Finding(
            verdict="fail", about="clock", says=says, advice="set this machine's clock: leases and timers go by it"
        )
    return Finding(verdict="ok", about="clock", says=says)


def _plugins(invocation: Invocation, url: StoreUrl) -> Iterator[Finding]:
    """Broken plugins: that of the store is needed, the others may be."""
    from abstractruntime.plugins import PluginHost

    infos = PluginHost(invocation.settings).report(load_all=True)
    for info in infos:
        if info.state == "broken":
            says = f"{info.name} ({info.distribution} {info.version}) is broken: {info.why}"
            advice = f'repair or uninstall it, or disable it: plugins.disabled = ["{info.name}"]'
            yield Finding(
                verdict="fail" if info.name == url.scheme else "warn", about="plugins", says=says, advice=advice
            )
    working = [info.name for info in infos if info.state == "loaded"]
    yield Finding(verdict="ok", about="plugins", says=f"{', '.join(working) or 'none'} can be used")


def _store(invocation: Invocation, url: StoreUrl, clock: Callable[[], float]) -> Iterator[Finding]:
    if url.path and Path(url.path).is_absolute():
        yield from _place(Path(url.path))
    if invocation.store_is_missing():
        yield Finding(verdict="ok", about="store", says="not there yet; the first run makes it")
        return
    try:
        with invocation.open_store() as store:
            yield Finding(verdict="ok", about="store", says=_answer(store))
            yield _writable(store)
            yield _drift(store, clock)
            yield from _doubt(store)
    except AbstractRuntimeError as error:
        yield Finding(
            verdict="fail", about="store", says=error.message, advice=error.hint or "see docs/reference/errors.md"
        )
    except OSError as error:
        yield Finding(
            verdict="fail", about="store", says=f"{url.text}: {error}", advice="check the path and its permissions"
        )


def _place(path: Path) -> Iterator[Finding]:
    """The folder of a store that is kept in files: whether it may be written, and has room."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        yield Finding(
            verdict="fail", about="folder", says=f"{folder} does not exist", advice=f"make it: mkdir -p {folder}"
        )
        return
    if not os.access(folder, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.R_OK | os.W_OK)):
        yield Finding(
            verdict="fail", about="folder", says=f"{folder} or what is in it may not be written by this user",
            advice="change its owner or mode, or name another store",
        )  # fmt: skip
        return
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    if free_mb < LOW_SPACE_MB:
        yield Finding(verdict="warn", about="folder", says=f"{folder} has {free_mb} MB left", advice="make room")
        return
    yield Finding(verdict="ok", about="folder", says=f"{folder} can be written, {free_mb:,} MB free")


def _answer(store: Store) -> str:
    begun = time.perf_counter()
    store.find(RunQuery(limit=1))
    return f"opens and answers ({(time.perf_counter() - begun) * 1000:.1f} ms)"


def _writable(store: Store) -> Finding:
    """A message to a run that cannot exist: the store begins to write, finds no such run, and leaves no trace."""
    nobody = "doctor:nobody"
    probe = Message(run_id=nobody, id="doctor", nonce="0" * 32, sender="doctor", seq=1, kind="probe")
    (delivery,) = store.deliver([probe])
    if delivery.outcome != "unknown_run":
        return Finding(
            verdict="warn", about="writing", says=f"a message to no run was {delivery.outcome}", advice="report this"
        )
    return Finding(verdict="ok", about="writing", says="the store takes messages")


def _drift(store: Store, clock: Callable[[], float]) -> Finding:
    ahead_s = store.now() / 1_000_000 - clock()
    if abs(ahead_s) > CLOCK_DRIFT_S:
        says = f"the store's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
        return Finding(
            verdict="warn",
            about="store clock",
            says=says,
            advice="nothing breaks, but times in logs will not agree: synchronize both",
        )
    return Finding(verdict="ok", about="store clock", says="agrees with this machine's")


def _doubt(store: Store) -> Iterator[Finding]:
    page = store.find(RunQuery(status=("waiting",), wait_reason="job", limit=1000))
    count = sum(any(is_doubt(wait.wait_key) for wait in head.projection.waits) for head in page.items)
    if count:
        yield Finding(
            verdict="warn", about="runs", says=f"{count} in doubt: nobody knows whether an effect happened",
            advice="art runs --in-doubt, then art show RUN and art resolve RUN",
        )  # fmt: skip

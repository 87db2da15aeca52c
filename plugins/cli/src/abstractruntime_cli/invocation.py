"""One call of the command line: its settings, its store, its runtime."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from abstractruntime.errors import StoreMissing, UnknownWorkflow

from .hints import ANY_WORKFLOW, Hints

if TYPE_CHECKING:
    from abstractruntime.config import Settings
    from abstractruntime.effects import HandlerLike
    from abstractruntime.models import RunState
    from abstractruntime.runtime import Runtime
    from abstractruntime.store.contract import Store, StoreUrl
    from abstractruntime.workflow import WorkflowSpec

    from .workflows import NamedWorkflow

DEFAULT_STORE = "sqlite:///./abstractruntime.db"
"""Where runs are kept when nobody says: unlike a program, a command line has no use for a store in memory."""


@dataclass(slots=True)
class Invocation:
    """What one call of the command line was given, and what it opened.

    ``store``: the URL of ``--store``, wherever it stood, None if nowhere. ``named``: the workflow that was named.
    """

    store: str | None = None
    verbose: bool = False
    named: NamedWorkflow | None = None
    _settings: Settings | None = field(default=None, init=False)

    @classmethod
    def of(cls, ctx: typer.Context, store: str | None, *, verbose: bool) -> Invocation:
        """This call's invocation, with what was given after the command's name."""
        invocation = ctx.find_object(cls)
        if invocation is None:
            raise TypeError("a command of this command line was called without it")
        invocation.say_more(verbose=verbose)
        if store is not None:
            invocation.store = store
        return invocation

    def say_more(self, *, verbose: bool) -> None:
        """``verbose``: tracebacks, and what the runtime logs."""
        if verbose:
            self.verbose = True
            logging.getLogger().setLevel(logging.INFO)

    @property
    def settings(self) -> Settings:
        """What is in force, ``--store`` included. Read once. Raises `ConfigError`."""
        if self._settings is None:
            from msgspec import structs

            from abstractruntime.config import load_settings

            settings = load_settings()
            store, origin = settings.store or DEFAULT_STORE, settings.origin("store")
            # Not as an argument of `load_settings`: validating one takes longer than all the rest of `art runs`.
            if self.store is not None:
                store, origin = self.store, "option --store"
            self._settings = structs.replace(settings, store=store, origins={**settings.origins, "store": origin})
        return self._settings

    @property
    def store_url(self) -> StoreUrl:
        """The store that is meant. Raises `InvalidUrl`."""
        from abstractruntime.urls import parse_store_url

        return parse_store_url(str(self.settings.store), base=Path.cwd())

    @property
    def hints(self) -> Hints:
        """What a command that this call offers has to repeat."""
        store = None
        if self.store is not None:
            from abstractruntime.urls import redact_url

            store = redact_url(self.store)
        return Hints(store=store, workflow=ANY_WORKFLOW if self.named is None else self.named.reference)

    def hints_for(self, runtime: Runtime, state: RunState) -> Hints:
        """The same for one run: its workflow need not be named where a plugin registers it."""
        hints = self.hints
        if self.named is None and _registered(runtime, state) is not None:
            return Hints(store=hints.store, workflow=None)
        return hints

    def name_workflow(self, reference: str | None) -> None:
        """Import the workflow that ``reference`` names, if any."""
        if reference is not None:
            from .workflows import load_workflow

            self.named = load_workflow(reference)

    def workflow_of(self, runtime: Runtime, state: RunState) -> WorkflowSpec:
        """The code of a run: what was named, or what a plugin registers. Raises `UnknownWorkflow`."""
        found = self.known_workflow_of(runtime, state)
        if found is None:
            version = f" version {state.workflow_version}" if state.workflow_version else ""
            raise UnknownWorkflow(
                f"run {state.run_id} needs the code of workflow {state.workflow_id!r}{version}, "
                "which no plugin registers",
                hint="say where it is: --workflow MODULE:WORKFLOW",
                run_id=state.run_id,
                workflow_id=state.workflow_id,
                version=state.workflow_version,
            )
        return found

    def known_workflow_of(self, runtime: Runtime, state: RunState) -> WorkflowSpec | None:
        """The same, None where nobody knows it."""
        return self.named.workflow if self.named is not None else _registered(runtime, state)

    @contextmanager
    def driver(self, *, must_exist: bool) -> Iterator[Runtime]:
        """A runtime that can drive runs: with the handlers and workflows of plugins, and of the workflow named."""
        from abstractruntime import open_runtime

        self._find_store(must_exist=must_exist)
        handlers: Mapping[str, HandlerLike] = self.named.effect_handlers if self.named is not None else {}
        workflows = [self.named.workflow] if self.named is not None else []
        with open_runtime(
            self.store_url.raw, settings=self.settings, workflows=workflows, effect_handlers=handlers
        ) as runtime:
            yield runtime

    @contextmanager
    def reader(self) -> Iterator[Runtime]:
        """A runtime that loads no plugin but the store's: enough to look at runs, and to cancel them."""
        from abstractruntime.runtime import Runtime

        with self.open_store() as store, Runtime(store=store, settings=self.settings.runtime) as runtime:
            yield runtime

    def open_store(self) -> Store:
        """The store, which has to be there already: looking makes none. Raises `StoreMissing`."""
        from abstractruntime import open_store

        self._find_store(must_exist=True)
        return open_store(self.store_url.raw, settings=self.settings)

    def store_is_missing(self) -> bool:
        """Whether the store is a file or folder that does not exist."""
        from abstractruntime.urls import FILE_SCHEMES

        url = self.store_url
        return url.scheme in FILE_SCHEMES and not Path(url.path).exists()

    def _find_store(self, *, must_exist: bool) -> None:
        if must_exist and self.store_is_missing():
            url = self.store_url
            raise StoreMissing(
                f"there is no store {url.text}: {url.path} does not exist",
                hint="`art run` makes it; --store URL, ABSTRACTRUNTIME_STORE or abstractruntime.toml name another",
                url=url.text,
            )


def _registered(runtime: Runtime, state: RunState) -> WorkflowSpec | None:
    registry = runtime.workflow_registry
    return None if registry is None else registry.get(state.workflow_id, state.workflow_version)

"""The hooks that a plugin may implement, and the values they return: the page a plugin author reads.

A plugin is a module (or any object) named by an entry point of the group ``abstractruntime``. It says which plugin API
it was written for, and implements the hooks that it has something for, as functions without ``self``::

    from abstractruntime.hookspecs import hookimpl

    abstractruntime_plugin_api = 1


    @hookimpl
    def abstractruntime_effect_handlers(settings):
        from .brush import paint

        return {"paint": EffectSpec(handler=paint, recovery=Recovery.PURE)}

Every hook is synchronous, is called once, when the plugin is registered, and returns values; none is called while runs
move. So a hook is quick and opens nothing: drivers are imported, and connections made, by the ``open`` of a value that
it returned. A plugin is registered as a whole: when one of its hooks raises, or returns something else than is asked
for here, nothing of the plugin is used, and its failure, with stage, plugin and distribution, stands in
``art plugins``. Names starting with ``abstractruntime_`` are kept for hooks: one that is no hook is taken for a
misspelled one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import pluggy
from msgspec import Struct

from .effects import EffectSpec
from .models import RunEvent
from .store.contract import StoreSpec
from .workflow import WorkflowSpec

if TYPE_CHECKING:
    from .config import Settings
    from .integrations import LLMClient, ToolSource

__all__ = [
    "PLUGIN_API",
    "CodecSpec",
    "CommandSpec",
    "Hooks",
    "LLMClientSpec",
    "Observer",
    "ToolSourceSpec",
    "hookimpl",
]

PLUGIN_API = 1
"""The plugin API of this version. It is raised when a plugin written for the older one could misbehave; a new hook, or
a new field with a default, is no reason."""

PROJECT = "abstractruntime"
"""The entry-point group, and what pluggy calls the project."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's function as a hook implementation. A hook's arguments may be left out, never renamed."""


class LLMClientSpec(Struct, frozen=True, kw_only=True):
    """How a plugin offers an LLM client.

    ``name``: what the client is chosen by. ``open(options)``: makes the client, when a run first needs it; ``options``
    is an instance of the options model, made from ``[plugin.<word>]`` and the environment, so that a required option
    that is not set is an error there; None where there is no model. ``options_model``: a pydantic model, the class or
    ``"module:Name"``, which is imported only when it is needed; a plugin has one for all that it offers. ``summary``:
    one line for `art plugins`.
    """

    name: str
    open: Callable[[object], LLMClient]
    summary: str
    options_model: type | str | None = None


class ToolSourceSpec(Struct, frozen=True, kw_only=True):
    """How a plugin offers tools. The fields are those of `LLMClientSpec`; ``open(options)`` makes the tool source."""

    name: str
    open: Callable[[object], ToolSource]
    summary: str
    options_model: type | str | None = None


class CodecSpec(Struct, frozen=True, kw_only=True):
    """A reversible form of stored bytes: a compression or an encryption.

    ``name`` is stored beside what was encoded, so it never changes its meaning. ``decode(encode(data))`` is ``data``,
    for any bytes, in any later version too. Both raise rather than return something doubtful.
    """

    name: str
    encode: Callable[[bytes], bytes]
    decode: Callable[[bytes], bytes]
    summary: str


class CommandSpec(Struct, frozen=True, kw_only=True):
    """A command, or a group of them, for the command line.

    ``name``: the word after ``art``. ``add(app)``: called by the command line, when it is built, with its
    ``typer.Typer``; it adds one command or one sub-application under ``name``: ``app.add_typer(paint, name="paint")``.
    The core has no typer, hence ``object``.
    """

    name: str
    add: Callable[[object], None]
    summary: str


Observer: TypeAlias = Callable[[RunEvent], None]
"""Is told what happened, after it was committed. What it raises is logged once; the run never notices."""


class Hooks(Protocol):
    """All hooks. A plugin implements those it has something for, as plain functions without ``self``."""

    @hookspec
    def abstractruntime_stores(self) -> Sequence[StoreSpec]:
        """The store that the plugin brings.

        Called when the plugin is registered: as the first of all plugins where a URL with its word is opened, with the
        others otherwise. Returns a list with one `StoreSpec`, whose ``scheme`` is the plugin's word, or an empty list.
        An exception means that the plugin is not used: an error for who asked for that store, a warning otherwise.
        """
        ...

    @hookspec
    def abstractruntime_effect_handlers(self, settings: Settings) -> Mapping[str, EffectSpec]:
        """Handlers by effect type.

        Called when the plugin is registered, used by each runtime that is opened. ``settings.options(word, model)``
        gives the plugin's own options, validated. Returns a mapping of effect types to `EffectSpec`; the recovery class
        has to be declared there, since only the author knows what may be repeated. A handler given to `open_runtime`
        goes before a plugin's, a plugin's before a built-in one; two plugins with one effect type are a
        `PluginConflict` that names both. An exception means that the plugin is not used; that an option is wrong which
        somebody has set (`UnknownSetting`, `InvalidSetting`) is raised.
        """
        ...

    @hookspec
    def abstractruntime_llm_clients(self) -> Sequence[LLMClientSpec]:
        """LLM clients for the core's `llm_call` handler.

        Called when the plugin is registered; a client is opened when a run first needs it. Returns a list of
        `LLMClientSpec`, each with a name of its own; two plugins with one name are a `PluginConflict` that names both.
        An exception means that the plugin is not used.
        """
        ...

    @hookspec
    def abstractruntime_tool_sources(self) -> Sequence[ToolSourceSpec]:
        """Tools for the core's `tool_calls` handler.

        Called when the plugin is registered; a source is opened when a run first needs it. Returns a list of
        `ToolSourceSpec`, each with a name of its own; two plugins with one name are a `PluginConflict` that names both.
        An exception means that the plugin is not used.
        """
        ...

    @hookspec
    def abstractruntime_codecs(self) -> Sequence[CodecSpec]:
        """Compressions and encryptions of stored bytes.

        Called when the plugin is registered. Returns a list of `CodecSpec`, each with a name of its own; two plugins
        with one name are a `PluginConflict` that names both, since bytes have one meaning. An exception means that the
        plugin is not used, and that nothing it encoded can be read.
        """
        ...

    @hookspec
    def abstractruntime_observers(self) -> Sequence[Observer]:
        """Functions that are told what happened.

        Called when the plugin is registered, used by each runtime that is opened. Returns a list of
        ``observer(event)``. Observers are called after the commit, in order per run, at most once for each event; one
        that raises is logged once, with the plugin's name, and the run is unharmed. An exception of the hook itself
        means that the plugin is not used.
        """
        ...

    @hookspec
    def abstractruntime_workflows(self) -> Sequence[WorkflowSpec]:
        """Workflows that every runtime knows.

        Called when the plugin is registered, used by each runtime that is opened. Returns a list of `WorkflowSpec`; two
        plugins with one id and version are a `PluginConflict` that names both. An exception means that the plugin is
        not used.
        """
        ...

    @hookspec
    def abstractruntime_commands(self) -> Sequence[CommandSpec]:
        """Commands for the command line.

        Called when the plugin is registered, used when the command line starts. Returns a list of `CommandSpec`, each
        with a name of its own; two plugins with one name are a `PluginConflict` that names both. An exception means
        that the plugin is not used; the command line works without it.
        """
        ...

"""What a runtime and the command line ask plugins for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..config import Settings
from ..config.keys import nearest
from ..effects import EffectSpec
from ..errors import AbstractRuntimeError, PluginConflict, PluginError, PluginMissing
from ..hookspecs import CodecSpec, CommandSpec, LLMClientSpec, Observer, ToolSourceSpec
from ..store.contract import Store, StoreSpec, StoreUrl
from ..urls import parse_store_url
from ..workflow import WorkflowSpec
from .discovery import PluginFailure
from .installation import Installation, PluginInfo, broken
from .registration import Offer, failed, options_class

if TYPE_CHECKING:
    from ..integrations import LLMClient, ToolSource
    from ..models import RunEvent

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")


class PluginObserver:
    """An observer of a plugin. What it raises is logged, once, and goes no further."""

    __slots__ = ("_observer", "_said", "plugin")

    def __init__(self, plugin: str, observer: Observer) -> None:
        self.plugin = plugin
        self._observer = observer
        self._said = False

    def __call__(self, event: RunEvent) -> None:
        try:
            self._observer(event)
        except Exception:  # noqa: BLE001  # the run is unharmed, whatever an observer does
            if not self._said:
                self._said = True
                _log.exception("an observer of plugin %r failed; this is said once", self.plugin)

    def __repr__(self) -> str:
        return f"PluginObserver({self.plugin!r}, {self._observer!r})"


class PluginHost:
    """Finds, loads and asks the installed plugins, under the given settings.

    A store is found by its scheme alone: no other plugin is imported for it. All other questions load every plugin that
    is not disabled. A plugin that fails is an error where it is needed (`PluginBroken`), a warning, logged once in a
    process, where it is not, and always an error where ``plugins.strict`` is set. A wrong setting of a plugin is an
    error of its own (`UnknownSetting`, `InvalidSetting`). Safe to share between threads.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._installation = Installation(self.settings)

    def __repr__(self) -> str:
        return f"PluginHost(loaded: {', '.join(self._installation.loaded) or 'none'})"

    @property
    def failures(self) -> tuple[PluginFailure, ...]:
        """What failed so far; a disabled plugin cannot fail."""
        return self._installation.failures

    def report(self, *, load_all: bool = False) -> list[PluginInfo]:
        """Every installed plugin, by name; where distributions claim one word, each of them. ``load_all``: load what is
        not loaded yet, to tell what is broken. Never raises."""
        return self._installation.report(load_all=load_all)

    def store(self, scheme: str) -> StoreSpec:
        """The store of that scheme. Raises `PluginMissing`, `PluginBroken`, `PluginConflict`."""
        return self._store_offer(scheme).stores[0]

    def open_store(self, url: StoreUrl) -> Store:
        """Open the store at ``url`` with the options of its plugin.

        Raises what `store` raises, `InvalidSetting` and `UnknownSetting` for the options, and what the store itself
        raises; an error that is none of ours becomes a `PluginBroken`.
        """
        offer = self._store_offer(url.scheme)
        spec = offer.stores[0]
        options = self._options(offer) if self.settings.plugin.get(url.scheme) else None
        _log.info("opening the store %s, path %r", url.text, url.path)
        return self._opened(offer, lambda: spec.open(url, options), "commit", "a Store", url)

    def effect_handlers(self, *, given: Collection[str] = ()) -> dict[str, EffectSpec]:
        """The handlers of all plugins, by effect type. ``given``: types that the caller has handlers for, which go
        before those of plugins: they are left out. Raises `PluginConflict` where two plugins have one type."""
        found = self._by_name(
            "effect type", lambda offer: offer.effect_handlers.items(), given=given, choice="; or give your own handler"
        )
        return {effect_type: spec for effect_type, (_, spec) in found.items()}

    def llm_clients(self) -> dict[str, LLMClientSpec]:
        """The LLM clients that can be opened, by name. Raises `PluginConflict` where two have one name."""
        return {name: spec for name, (_, spec) in self._llm_clients().items()}

    def llm_client(self, name: str | None = None) -> LLMClient:
        """Open the LLM client of that name; None: the only one there is. Raises as `open_store` does, and
        `PluginConflict` where there are several to choose from."""
        found = self._llm_clients()
        if name is None and len(found) > 1:
            raise PluginConflict(
                f"several plugins offer an LLM client, and none was chosen: {', '.join(found)}",
                hint="choose one by its name, or disable the plugins of the others: plugins.disabled",
            )
        chosen = next(iter(found), None) if name is None else name
        if chosen is None or chosen not in found:
            raise self._missing("LLM client", chosen, found, "abstractcore")
        offer, spec = found[chosen]
        options = self._options(offer)
        return self._opened(offer, lambda: spec.open(options), "generate", "an LLMClient")

    def tool_sources(self) -> dict[str, ToolSourceSpec]:
        """The tool sources that can be opened, by name. Raises `PluginConflict` where two have one name."""
        return {name: spec for name, (_, spec) in self._tool_sources().items()}

    def tool_source(self, name: str) -> ToolSource:
        """Open the tool source of that name. Raises as `open_store` does."""
        found = self._tool_sources()
        if name not in found:
            raise self._missing("tool source", name, found)
        offer, spec = found[name]
        options = self._options(offer)
        return self._opened(offer, lambda: spec.open(options), "tools", "a ToolSource")

    def codecs(self) -> dict[str, CodecSpec]:
        """The codecs of all plugins, by name. Raises `PluginConflict` where two have one name."""
        found = self._by_name("codec", lambda offer: ((codec.name, codec) for codec in offer.codecs))
        return {name: codec for name, (_, codec) in found.items()}

    def observers(self) -> tuple[PluginObserver, ...]:
        """The observers of all plugins. Calling one never raises."""
        return tuple(
            PluginObserver(offer.plugin.word, observer)
            for offer in self._installation.offers()
            for observer in offer.observers
        )

    def workflows(self) -> tuple[WorkflowSpec, ...]:
        """The workflows of all plugins. Raises `PluginConflict` where two have one id and version."""

        def named(offer: Offer) -> Iterable[tuple[str, WorkflowSpec]]:
            return ((f"{workflow.workflow_id} {workflow.version}".rstrip(), workflow) for workflow in offer.workflows)

        return tuple(workflow for _, workflow in self._by_name("workflow", named).values())

    def commands(self) -> tuple[CommandSpec, ...]:
        """The commands of all plugins. A plugin that fails is a warning here, a wrong setting too: the command line is
        what they are repaired with. Raises `PluginConflict` where two have one name."""
        found = self._by_name(
            "command", lambda offer: ((command.name, command) for command in offer.commands), lenient=True
        )
        return tuple(command for _, command in found.values())

    def _store_offer(self, scheme: str) -> Offer:
        offer = self._installation.offer(scheme)
        if offer is None or not offer.stores:
            installed = {each.plugin.word: each for each in self._installation.loadable() if each.stores}
            raise self._missing("store", scheme, installed)
        return offer

    def _llm_clients(self) -> dict[str, tuple[Offer, LLMClientSpec]]:
        return self._by_name("LLM client", lambda offer: ((client.name, client) for client in offer.llm_clients))

    def _tool_sources(self) -> dict[str, tuple[Offer, ToolSourceSpec]]:
        return self._by_name("tool source", lambda offer: ((source.name, source) for source in offer.tool_sources))

    def _by_name(
        self,
        what: str,
        items: Callable[[Offer], Iterable[tuple[str, _Item]]],
        *,
        given: Collection[str] = (),
        choice: str = "",
        lenient: bool = False,
    ) -> dict[str, tuple[Offer, _Item]]:
        """What all plugins offer of one kind, each thing by one plugin."""
        found: dict[str, tuple[Offer, _Item]] = {}
        for offer in self._installation.offers(lenient=lenient):
            for name, item in items(offer):
                if name in found:
                    raise _conflict(what, name, found[name][0], offer, choice)
                if name not in given:
                    found[name] = (offer, item)
        return found

    def _missing(
        self, what: str, name: str | None, installed: Mapping[str, object], distribution: str | None = None
    ) -> PluginMissing:
        asked = f"no {what} named {name!r}" if name is not None else f"no {what}"
        there = f"{asked}; installed: {', '.join(sorted(installed)) or 'none'}"
        failed = sorted({failure.plugin for failure in self.failures})
        if failed:
            there += f"; broken: {', '.join(failed)}"
        return PluginMissing(there, hint=_how_to_get(name, installed, distribution), name=name)

    def _options(self, offer: Offer) -> object:
        """The plugin's options as an instance of its model, None where it has none."""
        if offer.options_model is None:
            return None
        try:
            model = options_class(offer.options_model)
        except (ImportError, PluginError) as error:
            raise self._not_opened(offer, error) from error
        return self.settings.options(offer.plugin.word, model)

    def _opened(
        self, offer: Offer, opening: Callable[[], _Item], method: str, expected: str, url: StoreUrl | None = None
    ) -> _Item:
        error: Exception
        try:
            opened = opening()
            if callable(getattr(opened, method, None)):
                self._installation.opening(offer.plugin.word, None)
                return opened
            got = "None" if opened is None else type(opened).__name__
            error = PluginError(f"its open returned {got}, expected {expected}")
        except AbstractRuntimeError:
            raise  # the plugin says itself, in our words, what is wrong
        except Exception as raised:  # noqa: BLE001  # raised again below, where nothing with secrets hangs on it
            error = raised
        raise self._not_opened(offer, error, url)

    def _not_opened(self, offer: Offer, error: Exception, url: StoreUrl | None = None) -> AbstractRuntimeError:
        failure = failed(offer.plugin, "open", error, self.settings, url)
        self._installation.opening(offer.plugin.word, failure)
        return broken(failure)


def _conflict(what: str, name: str, first: Offer, second: Offer, choice: str) -> PluginConflict:
    one, other = (f"{offer.plugin.word!r} ({offer.plugin.distribution})" for offer in (first, second))
    return PluginConflict(
        f"two plugins offer the {what} {name!r}: {one} and {other}",
        hint=f'disable one of them: plugins.disabled = ["{second.plugin.word}"]{choice}',
        name=name,
        plugins=(first.plugin.word, second.plugin.word),
    )


def _how_to_get(name: str | None, installed: Mapping[str, object], distribution: str | None) -> str:
    near = nearest(name, installed) if name is not None else None
    install = f"pip install abstractruntime-{distribution or name}"
    return f"did you mean {near!r}? If not: {install}" if near else install


def open_store_by_url(text: str, settings: Settings, host: PluginHost | None = None) -> Store:
    """Open the store that a URL names; relative paths start from the working folder.

    ``host``: one that was made for the same settings, so that plugins are loaded once. Raises `InvalidUrl`, and what
    `PluginHost.open_store` raises.
    """
    url = parse_store_url(text, base=Path.cwd())
    return (host or PluginHost(settings)).open_store(url)

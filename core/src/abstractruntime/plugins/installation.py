"""What is installed and how far it came: each plugin is loaded when it is first needed, once."""

from __future__ import annotations

import logging
import threading
from typing import Literal

from msgspec import Struct

from ..config import Settings
from ..config.keys import nearest
from ..errors import ConfigError, PluginBroken, PluginConflict, PluginError, PluginMissing
from .discovery import Candidate, Discovery, PluginFailure, discover
from .registration import Offer, load

_log = logging.getLogger(__name__)
_told: set[str] = set()


class PluginInfo(Struct, frozen=True, kw_only=True):
    """A plugin as `art plugins` shows it. ``hooks``: those it implements, () until it is loaded. ``why``: it is
    disabled or broken, None otherwise."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    state: Literal["loaded", "not loaded", "disabled", "broken"]
    why: str | None = None


class Installation:
    """The installed plugins under some settings. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._discovery: Discovery | None = None
        self._outcomes: dict[str, Offer | PluginFailure] = {}
        self._not_opened: dict[str, PluginFailure] = {}

    def offer(self, word: str) -> Offer | None:
        """What the plugin of that word offers, None where none is installed. Imports no other plugin.

        Raises `PluginMissing` where it is disabled; `PluginBroken`, `PluginConflict`, `ConfigError` where it failed.
        """
        with self._lock:
            discovery = self._discover()
            failed = [failure for failure in discovery.failures if failure.plugin == word]
            if word not in discovery.candidates and not failed:
                return None
            why_not = self.why_not(word)
            if why_not is not None:
                raise PluginMissing(
                    f"the plugin {word!r} is installed and not used: {why_not}",
                    hint="change that list, or use another store",
                    plugin=word,
                )
            outcome = self._outcome(discovery.candidates[word]) if word in discovery.candidates else failed[0]
            if isinstance(outcome, PluginFailure):
                raise broken(outcome)
            return outcome

    def offers(self, *, lenient: bool = False) -> list[Offer]:
        """What all plugins offer, by word.

        A failure is a warning, once; with ``plugins.strict``, and where somebody set an option of the plugin wrong, it
        is raised. ``lenient``: always a warning.
        """
        with self._lock:
            offers = self._load_all()
            for failure in self._not_loaded():
                if not lenient and (self.settings.plugins.strict or self._is_set_wrong(failure)):
                    raise broken(failure)
                _warn_once(f"{failure}; it is not used")
            return offers

    def loadable(self) -> list[Offer]:
        """What all plugins offer that do not fail, for messages: nothing is raised or warned about."""
        with self._lock:
            return self._load_all()

    @property
    def failures(self) -> tuple[PluginFailure, ...]:
        """What failed so far, the disabled plugins left out."""
        with self._lock:
            return (*self._not_loaded(), *self._not_opened.values())

    @property
    def loaded(self) -> tuple[str, ...]:
        """The words of the plugins that are loaded now."""
        with self._lock:
            return tuple(sorted(word for word, outcome in self._outcomes.items() if isinstance(outcome, Offer)))

    def opening(self, word: str, failure: PluginFailure | None) -> None:
        """Keep for the report how the last attempt to open something of a loaded plugin ended."""
        with self._lock:
            self._not_opened.pop(word, None)
            if failure is not None:
                self._not_opened[word] = failure

    def why_not(self, word: str) -> str | None:
        """Why a plugin is disabled, None where it is not."""
        plugins, origin = self.settings.plugins, self.settings.origin
        if word in plugins.disabled:
            return f"it stands in plugins.disabled ({origin('plugins.disabled')})"
        if plugins.enabled is not None and word not in plugins.enabled:
            return f"it does not stand in plugins.enabled ({origin('plugins.enabled')})"
        return None

    def report(self, *, load_all: bool) -> list[PluginInfo]:
        """Every installed plugin, by name."""
        with self._lock:
            discovery = self._discover()
            if load_all:
                self._load_all()
            infos = [self._failed_info(failure) for failure in discovery.failures]
            infos += [self._info(plugin) for plugin in discovery.candidates.values()]
            return sorted(infos, key=lambda info: (info.name, info.distribution))

    def _discover(self) -> Discovery:
        if self._discovery is None:
            self._discovery = discover()
            self._warn_of_unknown_words(self._discovery)
        return self._discovery

    def _not_loaded(self) -> list[PluginFailure]:
        found = self._discovery.failures if self._discovery else ()
        loaded = (outcome for outcome in self._outcomes.values() if isinstance(outcome, PluginFailure))
        return [*(failure for failure in found if self.why_not(failure.plugin) is None), *loaded]

    def _is_set_wrong(self, failure: PluginFailure) -> bool:
        """Not so where an option is missing and none is set: the plugin may just be installed."""
        return isinstance(failure.error, ConfigError) and bool(self.settings.plugin.get(failure.plugin))

    def _load_all(self) -> list[Offer]:
        candidates = sorted(self._discover().candidates.values(), key=lambda plugin: plugin.word)
        outcomes = [self._outcome(plugin) for plugin in candidates if self.why_not(plugin.word) is None]
        return [outcome for outcome in outcomes if isinstance(outcome, Offer)]

    def _outcome(self, plugin: Candidate) -> Offer | PluginFailure:
        outcome = self._outcomes.get(plugin.word)
        if outcome is None:
            outcome = self._outcomes[plugin.word] = load(plugin, self.settings)
        return outcome

    def _warn_of_unknown_words(self, discovery: Discovery) -> None:
        known = {*discovery.candidates, *(failure.plugin for failure in discovery.failures)}
        plugins = self.settings.plugins
        named = [(word, f"plugin.{word}") for word in self.settings.plugin]
        named += [(word, "plugins.enabled") for word in plugins.enabled or ()]
        named += [(word, "plugins.disabled") for word in plugins.disabled]
        for word, key in named:
            if word not in known:
                near = nearest(word, known)
                meant = f"; did you mean {near!r}?" if near else ""
                _warn_once(f"{key} ({self.settings.origin(key)}) names {word!r}, which is no installed plugin{meant}")

    def _failed_info(self, failure: PluginFailure) -> PluginInfo:
        why_not = self.why_not(failure.plugin)
        return PluginInfo(
            name=failure.plugin,
            distribution=failure.distribution,
            version=failure.version,
            hooks=(),
            state="broken" if why_not is None else "disabled",
            why=why_not or failure.explanation,
        )

    def _info(self, plugin: Candidate) -> PluginInfo:
        outcome = self._not_opened.get(plugin.word) or self._outcomes.get(plugin.word)
        why_not = self.why_not(plugin.word)
        if why_not is None and isinstance(outcome, PluginFailure):
            return self._failed_info(outcome)
        offer = outcome if isinstance(outcome, Offer) else None
        return PluginInfo(
            name=plugin.word,
            distribution=plugin.distribution,
            version=plugin.version,
            hooks=offer.hooks if offer else (),
            state="disabled" if why_not else "loaded" if offer else "not loaded",
            why=why_not,
        )


def broken(failure: PluginFailure) -> PluginError | ConfigError:
    """The error for who needs the plugin: a conflict and a wrong setting speak for themselves."""
    if isinstance(failure.error, PluginConflict | ConfigError):
        return failure.error
    error = PluginBroken(str(failure), hint=failure.advice, plugin=failure.plugin, failure=failure)
    error.__cause__ = failure.error
    return error


def _warn_once(message: str) -> None:
    """Once in a process: every runtime that is opened finds the same plugins."""
    if message not in _told:
        _told.add(message)
        _log.warning("%s", message)

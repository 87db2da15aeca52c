"""Opening by URL and settings: what most programs call first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from .config import Settings, load_settings
from .effects import EffectSpec, HandlerLike
from .integrations import LLMClient, Tool, ToolSource
from .limits import RuntimeConfig
from .models import EffectType, JsonDict
from .plugins import PluginHost
from .retry import EffectPolicy
from .runtime import Runtime
from .store.contract import Store
from .urls import parse_store_url
from .workflow import RunContext, WorkflowRegistry, WorkflowSpec

log = logging.getLogger("abstractruntime")

MEMORY = "memory:"


def open_store(url: str | None = None, *, settings: Settings | None = None) -> Store:
    """Open the store at ``url``; None: the one in the settings, and if there is none, in memory (said in the log).

    ``settings`` None: loaded from environment and files. The caller closes it. Raises `InvalidUrl`, `PluginMissing`,
    `PluginBroken`, `ConfigError`, and what the store itself raises.
    """
    settings = settings if settings is not None else load_settings()
    return _open_store(PluginHost(settings), url, settings)


def open_runtime(
    url: str | None = None,
    *,
    settings: Settings | None = None,
    workflows: Iterable[WorkflowSpec] = (),
    effect_handlers: Mapping[str, HandlerLike] | None = None,
    store: Store | None = None,
    config: RuntimeConfig | None = None,
    context: RunContext | None = None,
    workflow_registry: WorkflowRegistry | None = None,
    artifact_store: object = None,
    effect_policy: EffectPolicy | None = None,
) -> Runtime:
    """A runtime on the store at ``url`` (as in `open_store`), with the handlers that plugins bring.

    ``workflows`` are registered, so that `tick` needs no ``workflow=``. ``store``: an open store instead of a URL; it
    stays the caller's to close. Plugins are imported when the first effect comes up that has no handler here.
    """
    settings = settings if settings is not None else load_settings()
    host = PluginHost(settings)
    registry = workflow_registry if workflow_registry is not None else WorkflowRegistry(more=host.workflows)
    for workflow in workflows:
        registry.register(workflow)
    if settings.plugins.strict:
        host.observers()  # loads every plugin: one that fails is an error now, not in the middle of a run
    opened = store if store is not None else _open_store(host, url, settings)
    try:
        return Runtime(
            store=opened,
            effect_handlers=effect_handlers,
            context=context,
            workflow_registry=registry,
            artifact_store=artifact_store,
            effect_policy=effect_policy,
            config=config,
            settings=settings.runtime,
            plugin_handlers=_plugin_handlers(host, settings),
            observers=host.observers,
            owns_store=store is None,
        )
    except BaseException:
        if store is None:
            opened.close()
        raise


def _open_store(host: PluginHost, url: str | None, settings: Settings) -> Store:
    text = url or settings.store
    if text is None:
        log.info("no store is configured: runs are kept in memory and end with this process")
        text = MEMORY
    return host.open_store(parse_store_url(text, base=Path.cwd()))


def _plugin_handlers(
    host: PluginHost, settings: Settings
) -> Callable[[Mapping[str, EffectSpec]], Mapping[str, EffectSpec]]:
    def of_plugins(given: Mapping[str, EffectSpec]) -> Mapping[str, EffectSpec]:
        from .integrations.handlers import make_tool_calls_handler
        from .integrations.llm import make_llm_call_handler

        handlers = host.effect_handlers(given=given)
        if EffectType.LLM_CALL not in {*given, *handlers} and host.llm_clients():
            handlers[EffectType.LLM_CALL.value] = make_llm_call_handler(_ClientOnUse(host))
        if EffectType.TOOL_CALLS not in {*given, *handlers}:
            names = list(host.tool_sources())
            if names:
                source = _ToolsOnUse(host, names)
                undeclared = settings.runtime.default_recovery
                handlers[EffectType.TOOL_CALLS.value] = make_tool_calls_handler(source, undeclared=undeclared)
        return handlers

    return of_plugins


class _ToolsOnUse:
    """The tools of all sources that plugins bring, opened when the first call needs them."""

    def __init__(self, host: PluginHost, names: Sequence[str]) -> None:
        self._host = host
        self._names = names
        self._sources: list[ToolSource] | None = None

    def tools(self) -> list[Tool]:
        if self._sources is None:
            self._sources = [self._host.tool_source(name) for name in self._names]
        return [tool for source in self._sources for tool in source.tools()]


class _ClientOnUse:
    """The LLM client that the settings choose, opened when the first call needs it."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self._client: LLMClient | None = None

    def generate(
        self,
        *,
        prompt: str,
        messages: list[JsonDict] | None = None,
        system_prompt: str | None = None,
        tools: list[JsonDict] | None = None,
        params: JsonDict | None = None,
    ) -> JsonDict:
        if self._client is None:
            self._client = self._host.llm_client()
        return self._client.generate(
            prompt=prompt, messages=messages, system_prompt=system_prompt, tools=tools, params=params
        )

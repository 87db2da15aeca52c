"""Runtimes over an LLM server in one call, for programs that have no settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from abstractruntime.integrations import PassthroughToolExecutor, build_effect_handlers
from abstractruntime.opening import open_store
from abstractruntime.runtime import Runtime

from .client import RemoteAbstractCoreLLMClient

if TYPE_CHECKING:
    from abstractruntime import LedgerStore, RunContext, RunStore
    from abstractruntime.effects import EffectSpec
    from abstractruntime.integrations import ToolExecutor, ToolSource


def create_remote_runtime(
    *,
    server_base_url: str,
    model: str,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
    run_store: RunStore | None = None,
    ledger_store: LedgerStore | None = None,
    tool_executor: ToolSource | ToolExecutor | None = None,
    context: RunContext | None = None,
) -> Runtime:
    """A runtime whose `llm_call` goes to a server; see `RemoteAbstractCoreLLMClient` for the arguments.

    Without stores, runs live in memory. Without ``tool_executor``, a run that calls tools waits until the host resumes
    it with their results.
    """
    handlers = _handlers(server_base_url, model, headers, timeout_s, tool_executor)
    if run_store is None and ledger_store is None:
        return Runtime(store=open_store("memory:"), effect_handlers=handlers, context=context, owns_store=True)
    return Runtime(run_store, ledger_store, effect_handlers=handlers, context=context)


def create_remote_file_runtime(
    *,
    base_dir: str | Path,
    server_base_url: str,
    model: str,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
    context: RunContext | None = None,
) -> Runtime:
    """Like `create_remote_runtime`, with the runs in a folder. Raises `PluginMissing` without the file store."""
    handlers = _handlers(server_base_url, model, headers, timeout_s, None)
    # Three slashes and an absolute path make four: absolute.
    store = open_store(f"file:///{quote(str(Path(base_dir).absolute()))}")
    return Runtime(store=store, effect_handlers=handlers, context=context, owns_store=True)


def _handlers(
    server_base_url: str,
    model: str,
    headers: Mapping[str, str] | None,
    timeout_s: float,
    tools: ToolSource | ToolExecutor | None,
) -> dict[str, EffectSpec]:
    llm = RemoteAbstractCoreLLMClient(
        server_base_url=server_base_url, model=model, headers=headers, timeout_s=timeout_s
    )
    return build_effect_handlers(llm=llm, tools=PassthroughToolExecutor() if tools is None else tools)

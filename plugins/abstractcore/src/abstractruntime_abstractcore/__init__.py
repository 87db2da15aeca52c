"""LLM client for AbstractRuntime, over AbstractCore's server or any other OpenAI-compatible one."""

from __future__ import annotations

from abstractruntime.hookspecs import LLMClientSpec, hookimpl

abstractruntime_plugin_api = 1


@hookimpl
def abstractruntime_llm_clients() -> list[LLMClientSpec]:
    """The client that is configured by ``[plugin.abstractcore]``."""
    from .client import open_client

    return [
        LLMClientSpec(
            name="abstractcore",
            open=open_client,
            summary="an AbstractCore or OpenAI-compatible server, over HTTP",
            options_model="abstractruntime_abstractcore.options:ClientOptions",
        )
    ]

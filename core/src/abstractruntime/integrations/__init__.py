"""LLMs and tools: the `llm_call` and `tool_calls` handlers over the protocols `LLMClient` and `ToolSource`.

Plugins and hosts give clients and tools; what is asked, counted, checked and repeated is the same for all of them and
stands here. Names resolve when they are used, so importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .calls import ToolCall, read_tool_calls
    from .executors import MappingToolExecutor, PassthroughToolExecutor, ToolExecutor
    from .handlers import build_effect_handlers, make_tool_calls_handler
    from .llm import LLMClient, make_llm_call_handler
    from .tools import Tool, ToolContext, ToolSource, tool

__all__ = [
    "LLMClient",
    "MappingToolExecutor",
    "PassthroughToolExecutor",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolExecutor",
    "ToolSource",
    "build_effect_handlers",
    "make_llm_call_handler",
    "make_tool_calls_handler",
    "read_tool_calls",
    "tool",
]

_MODULES = {
    "LLMClient": "llm",
    "MappingToolExecutor": "executors",
    "PassthroughToolExecutor": "executors",
    "Tool": "tools",
    "ToolCall": "calls",
    "ToolContext": "tools",
    "ToolExecutor": "executors",
    "ToolSource": "tools",
    "build_effect_handlers": "handlers",
    "make_llm_call_handler": "llm",
    "make_tool_calls_handler": "handlers",
    "read_tool_calls": "calls",
    "tool": "tools",
}


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

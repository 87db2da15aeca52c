"""Executors of tool calls, under the names that programs know them by; they are the core's."""

from abstractruntime.integrations.executors import MappingToolExecutor, PassthroughToolExecutor, ToolExecutor

__all__ = ["MappingToolExecutor", "PassthroughToolExecutor", "ToolExecutor"]

"""Where the names of 0.2 are now: one table of its module paths.

A path that no longer exists resolves to a thin module without content; each name asked of it is looked up in the table,
with a DeprecationWarning that says where it is now.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType

from .. import _locate

_TOP = "abstractruntime"
_ARTIFACTS = f"{_TOP}.artifacts"
_INTEGRATIONS = f"{_TOP}.integrations"
_RECORDS = f"{_TOP}.legacy.records"
_CLIENT = "abstractruntime_abstractcore.client"
_FACTORY = "abstractruntime_abstractcore.factory"
_LOCAL = "abstractruntime_abstractcore.local"
_TRANSPORT = "abstractruntime_abstractcore.transport"

# Old path -> new place -> the names that are there now; `old=new` where a name has changed.
_TABLE: Mapping[str, Mapping[str, str]] = {
    "abstractruntime.core": {
        _TOP: "Effect EffectType LimitWarning RunState RunStatus Runtime RuntimeConfig StepPlan WaitReason WaitState "
        "WorkflowSpec",
        f"{_TOP}.vars": "LIMITS ensure_limits get_limits",
    },
    "abstractruntime.core.config": {_TOP: "RuntimeConfig"},
    "abstractruntime.core.models": {
        _TOP: "Effect EffectType LimitWarning RunState RunStatus StepPlan StepStatus WaitReason WaitState",
        _RECORDS: "StepRecord utc_now",
    },
    "abstractruntime.core.policy": {
        _TOP: "DefaultEffectPolicy EffectPolicy NoRetryPolicy RetryPolicy compute_idempotency_key",
    },
    "abstractruntime.core.runtime": {
        _TOP: "EffectHandler EffectOutcome Runtime",
        _RECORDS: "DefaultRunContext utc_now_iso",
    },
    "abstractruntime.core.spec": {_TOP: "NodeHandler RunContext WorkflowSpec"},
    "abstractruntime.core.vars": {
        f"{_TOP}.vars": "CONTEXT LIMITS RUNTIME SCRATCHPAD TEMP clear_temp ensure_limits ensure_namespaces get_context "
        "get_limits get_namespace get_runtime get_scratchpad get_temp",
    },
    "abstractruntime.identity": {_TOP: "ActorFingerprint"},
    "abstractruntime.identity.fingerprint": {_TOP: "ActorFingerprint", f"{_TOP}.identity.fingerprint": "sha256_hex"},
    "abstractruntime.integrations": {},
    "abstractruntime.integrations.abstractcore": {
        _TOP: "RuntimeConfig",
        _INTEGRATIONS: "AbstractCoreLLMClient=LLMClient MappingToolExecutor PassthroughToolExecutor ToolExecutor "
        "build_effect_handlers",
        _CLIENT: "RemoteAbstractCoreLLMClient",
        _FACTORY: "create_hybrid_runtime create_local_file_runtime create_local_runtime create_remote_file_runtime "
        "create_remote_runtime",
        _LOCAL: "AbstractCoreToolExecutor LocalAbstractCoreLLMClient",
    },
    "abstractruntime.integrations.abstractcore.effect_handlers": {
        _INTEGRATIONS: "build_effect_handlers make_llm_call_handler make_tool_calls_handler",
    },
    "abstractruntime.integrations.abstractcore.factory": {
        _FACTORY: "create_hybrid_runtime create_local_file_runtime create_local_runtime create_remote_file_runtime "
        "create_remote_runtime",
    },
    "abstractruntime.integrations.abstractcore.llm_client": {
        _INTEGRATIONS: "AbstractCoreLLMClient=LLMClient",
        _CLIENT: "RemoteAbstractCoreLLMClient",
        _LOCAL: "LocalAbstractCoreLLMClient",
        _TRANSPORT: "HttpResponse HttpxRequestSender RequestSender",
    },
    "abstractruntime.integrations.abstractcore.logging": {"logging": "get_logger=getLogger"},
    "abstractruntime.integrations.abstractcore.tool_executor": {
        _INTEGRATIONS: "MappingToolExecutor PassthroughToolExecutor ToolExecutor",
        _LOCAL: "AbstractCoreToolExecutor",
    },
    "abstractruntime.scheduler": {
        _TOP: "ScheduledRuntime Scheduler SchedulerStats WorkflowRegistry create_scheduled_runtime",
    },
    "abstractruntime.scheduler.convenience": {_TOP: "ScheduledRuntime create_scheduled_runtime"},
    "abstractruntime.scheduler.registry": {_TOP: "WorkflowRegistry"},
    "abstractruntime.scheduler.scheduler": {_TOP: "Scheduler SchedulerStats", _RECORDS: "utc_now_iso"},
    "abstractruntime.storage": {
        _TOP: "HashChainedLedgerStore InMemoryLedgerStore InMemoryRunStore InMemorySnapshotStore JsonFileRunStore "
        "JsonSnapshotStore JsonlLedgerStore LedgerStore QueryableRunStore RunStore Snapshot SnapshotStore "
        "verify_ledger_chain",
    },
    "abstractruntime.storage.artifacts": {
        _TOP: "Artifact ArtifactMetadata ArtifactStore FileArtifactStore InMemoryArtifactStore artifact_ref "
        "compute_artifact_id get_artifact_id is_artifact_ref resolve_artifact",
        _ARTIFACTS: "validate_artifact_id",
        _RECORDS: "utc_now_iso",
    },
    "abstractruntime.storage.base": {_TOP: "LedgerStore QueryableRunStore RunStore"},
    "abstractruntime.storage.in_memory": {_TOP: "InMemoryLedgerStore InMemoryRunStore"},
    "abstractruntime.storage.json_files": {_TOP: "JsonFileRunStore JsonlLedgerStore"},
    "abstractruntime.storage.ledger_chain": {
        _TOP: "HashChainedLedgerStore verify_ledger_chain",
        f"{_TOP}.legacy.chain": "compute_record_hash",
    },
    "abstractruntime.storage.snapshots": {
        _TOP: "InMemorySnapshotStore JsonSnapshotStore Snapshot SnapshotStore",
        _RECORDS: "utc_now_iso",
    },
}


def spec_of(path: str) -> ModuleSpec | None:
    """How an old path is imported; None for a path that 0.2 did not have."""
    if path not in _TABLE:
        return None
    return ModuleSpec(path, _Loader(), is_package=any(_submodules(path)))


def _submodules(path: str) -> Iterator[str]:
    return (name.removeprefix(f"{path}.") for name in _TABLE if name.rpartition(".")[0] == path)


def _entries(path: str) -> Iterator[tuple[str, str, str]]:
    """Each name of an old module with its new place and its name there."""
    for place, names in _TABLE[path].items():
        for entry in names.split():
            old, _, new = entry.partition("=")
            yield old, place, new or old


class OldModule(ModuleType):
    """A module of 0.2 whose names are elsewhere now."""

    def __getattr__(self, name: str) -> object:
        if name == "__all__":
            return [old for old, place, new in _entries(self.__name__) if self._has(old, place, new)]
        if name in _submodules(self.__name__):
            return import_module(f"{self.__name__}.{name}")
        for old, place, new in _entries(self.__name__):
            if old == name:
                found = self._locate(old, place, new)
                warnings.warn(
                    f"{self.__name__}.{old} has moved: from {place} import {new}",
                    DeprecationWarning,
                    stacklevel=2,
                )
                setattr(self, old, found)
                return found
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted(
            {*super().__dir__(), *(old for old, _, _ in _entries(self.__name__)), *_submodules(self.__name__)}
        )

    def _locate(self, old: str, place: str, new: str) -> object:
        return _locate(place, new, asked=f"{self.__name__}.{old}")

    def _has(self, old: str, place: str, new: str) -> bool:
        try:
            self._locate(old, place, new)
        except ImportError:
            return False
        return True


class _Loader(Loader):
    """Makes the thin modules; there is nothing to execute."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return OldModule(spec.name, f"A module of 0.2: its names are elsewhere now ({__name__}).")

    def exec_module(self, module: ModuleType) -> None: ...

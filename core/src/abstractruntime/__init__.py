"""Durable runs: workflows that survive crashes, wait for days, and keep a ledger of what they did.

::

    import abstractruntime as ar

    with ar.open_runtime("sqlite:///runs.db", workflows=[review]) as rt:
        run_id = rt.start(workflow=review, vars={"context": {"file": "invoice.txt"}})
        state = rt.tick(run_id=run_id)

Every public name resolves when it is first asked for, so that `import abstractruntime` stays cheap. A name that a
plugin provides resolves to the plugin; where the plugin is missing, the ImportError says which distribution to install.
The module paths of 0.2 resolve through the table of `abstractruntime.legacy`, with a DeprecationWarning.
"""

import sys

# Not typing's: importing that would cost more than all the rest of this module. Type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from . import errors, identity, vars
    from .effects import EffectContext, EffectHandler, EffectOutcome, EffectSpec, Reconciled
    from .errors import AbstractRuntimeError, EffectError, FatalError, RateLimited, RetryableError
    from .identity import ActorFingerprint
    from .legacy.chain import verify_ledger_chain
    from .legacy.stores import (
        HashChainedLedgerStore,
        InMemoryLedgerStore,
        InMemoryRunStore,
        LedgerStore,
        QueryableRunStore,
        RunStore,
    )
    from .limits import RuntimeConfig
    from .models import (
        Effect,
        EffectType,
        LimitWarning,
        Recovery,
        RunState,
        RunStatus,
        StepPlan,
        StepStatus,
        WaitReason,
        WaitState,
    )
    from .opening import open_runtime, open_store
    from .retry import DefaultEffectPolicy, EffectPolicy, NoRetryPolicy, RetryPolicy, compute_idempotency_key
    from .runtime import Runtime
    from .store.contract import RunQuery, Store
    from .workflow import NodeHandler, RunContext, WorkflowRegistry, WorkflowSpec

__all__ = [
    "AbstractRuntimeError",
    "ActorFingerprint",
    "DefaultEffectPolicy",
    "Effect",
    "EffectContext",
    "EffectError",
    "EffectHandler",
    "EffectOutcome",
    "EffectPolicy",
    "EffectSpec",
    "EffectType",
    "FatalError",
    "HashChainedLedgerStore",
    "InMemoryLedgerStore",
    "InMemoryRunStore",
    "LedgerStore",
    "LimitWarning",
    "NoRetryPolicy",
    "NodeHandler",
    "QueryableRunStore",
    "RateLimited",
    "Reconciled",
    "Recovery",
    "RetryPolicy",
    "RetryableError",
    "RunContext",
    "RunQuery",
    "RunState",
    "RunStatus",
    "RunStore",
    "Runtime",
    "RuntimeConfig",
    "StepPlan",
    "StepStatus",
    "Store",
    "WaitReason",
    "WaitState",
    "WorkflowRegistry",
    "WorkflowSpec",
    "compute_idempotency_key",
    "errors",
    "identity",
    "open_runtime",
    "open_store",
    "vars",
    "verify_ledger_chain",
]

_ADAPTERS = ("ledger_store_view", "pair_store", "run_store_view")
"""No public names: `runtime` asks the package for what stands in a layer above it."""

# Where each public name is. Those that `__all__` lacks belong to a plugin or to a part that is not built yet: a star
# import must not fail for their sake.
_PLACES = {
    name: place
    for place, names in {
        "abstractruntime.artifacts": "Artifact ArtifactMetadata ArtifactStore InMemoryArtifactStore artifact_ref "
        "compute_artifact_id get_artifact_id is_artifact_ref resolve_artifact",
        "abstractruntime.effects": "EffectContext EffectHandler EffectOutcome EffectSpec Reconciled",
        "abstractruntime.errors": "AbstractRuntimeError EffectError FatalError RateLimited RetryableError",
        # `RunState` comes by way of `identity`, which gives `RunState.new` its ids and its clock.
        "abstractruntime.identity": "ActorFingerprint RunState",
        "abstractruntime.legacy.adapter": "pair_store",
        "abstractruntime.legacy.chain": "verify_ledger_chain",
        "abstractruntime.legacy.stores": "HashChainedLedgerStore InMemoryLedgerStore InMemoryRunStore LedgerStore "
        "QueryableRunStore RunStore",
        "abstractruntime.legacy.views": "ledger_store_view run_store_view",
        "abstractruntime.limits": "RuntimeConfig",
        "abstractruntime.models": "Effect EffectType LimitWarning Recovery RunStatus StepPlan StepStatus WaitReason "
        "WaitState",
        "abstractruntime.opening": "open_runtime open_store",
        "abstractruntime.retry": "DefaultEffectPolicy EffectPolicy NoRetryPolicy RetryPolicy compute_idempotency_key",
        "abstractruntime.runtime": "Runtime",
        "abstractruntime.scheduler": "ScheduledRuntime Scheduler SchedulerStats create_scheduled_runtime",
        "abstractruntime.snapshots": "InMemorySnapshotStore Snapshot SnapshotStore",
        "abstractruntime.store.contract": "RunQuery Store",
        "abstractruntime.workflow": "NodeHandler RunContext WorkflowRegistry WorkflowSpec",
        "abstractruntime_file.artifacts": "FileArtifactStore",
        "abstractruntime_file.pair": "JsonFileRunStore JsonlLedgerStore",
        "abstractruntime_file.snapshots": "JsonSnapshotStore",
    }.items()
    for name in names.split()
}

# Modules that are attributes of the package without having been imported, as they were in 0.2.
_MODULES = frozenset(("core", "errors", "identity", "integrations", "scheduler", "storage", "vars"))


def _lookup(name: str) -> object:
    if name in _MODULES:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = _locate(_PLACES[name], name, asked=f"{__name__}.{name}")
    globals()[name] = found
    return found


def _locate(place: str, name: str, *, asked: str) -> object:
    """``name`` of the module ``place``. Where it is not to be had, the ImportError says why, calling it ``asked``."""
    from importlib import import_module

    root = place.partition(".")[0]
    try:
        module = import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # something that the place itself needs
        if error.name == root:
            from .legacy import NameMissing

            distribution = root.replace("_", "-")
            raise NameMissing(
                f"{asked} is provided by {distribution}, which is not installed",
                hint=f"pip install {distribution}",
                distribution=distribution,
            ) from None
        module = None
    # A thin module of the old paths stands in for a real one that is not built yet: it would only send us back here.
    if module is None or type(module).__name__ == "OldModule" or not hasattr(module, name):
        raise ImportError(f"{asked} is not part of this version; its place is {place}.{name}")
    found: object = getattr(module, name)
    return found


class _OldPaths:
    """Finds modules under their 0.2 paths. It is asked last, so only for modules that do not exist."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        if not name.startswith(f"{__name__}."):
            return None
        from .legacy.table import spec_of

        return spec_of(name)


sys.meta_path.append(_OldPaths)

if not TYPE_CHECKING:  # a type checker that saw these would take every misspelled name for a public one
    __getattr__ = _lookup

    def __dir__():
        return sorted({*__all__, *_PLACES}.difference(_ADAPTERS))

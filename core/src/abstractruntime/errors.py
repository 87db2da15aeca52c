"""Every error of the runtime, one hierarchy.

::

    AbstractRuntimeError
    ├── UsageError ............... what was asked for makes no sense (ValueError)
    │   ├── InvalidValue ......... a value that cannot be stored, named by its path
    │   ├── InvalidInstant ....... a time stamp without an offset, or none at all
    │   ├── InvalidPlan .......... a node returned something that is no plan
    │   ├── InvalidPayload ....... an effect asked for without what it needs
    │   ├── InvalidHandler ....... an effect handler that cannot be called as one
    │   ├── InvalidId ............ an id or key of the wrong form
    │   ├── UnknownRun ........... (KeyError)
    │   ├── UnknownNode .......... (KeyError)
    │   ├── UnknownWorkflow ...... (KeyError)
    │   ├── UnknownWait .......... an answer to a question nobody asked
    │   ├── NotWaiting ........... an answer to a run that asks nothing
    │   ├── DuplicateRun ......... a run of that id exists
    │   ├── DuplicateWorkflow
    │   ├── WorkflowMismatch ..... another workflow's code for a run
    │   └── WrongStatus .......... not possible while the run is as it is
    ├── Conflict ................. somebody else was first (RuntimeError)
    ├── Leased ................... somebody else holds the run now (RuntimeError)
    ├── EffectError .............. raised by handlers to say what kind of failure it was
    │   ├── RetryableError
    │   │   └── RateLimited
    │   └── FatalError
    ├── StoreError ............... the medium (RuntimeError)
    │   ├── StoreBusy, StoreFull, StoreReadOnly, StoreClosed, StoreMissing
    │   ├── StoreCorrupt ......... damage, named by file and place
    │   ├── StoreForeign ......... a file or place that is not ours
    │   └── OutcomeUnknown ....... it cannot be told whether a commit was applied
    ├── FormatError .............. bytes that this version cannot read (ValueError)
    │   ├── FormatTooNew ......... written by a newer version
    │   └── LedgerCorrupt ........ records that do not follow from each other
    ├── PluginError (RuntimeError)
    │   ├── PluginMissing ........ no such plugin is installed
    │   ├── PluginBroken ......... it is installed and cannot be used
    │   └── PluginConflict ....... two claim one thing
    └── ConfigError (ValueError)
        ├── UnknownSetting
        ├── InvalidSetting
        └── InvalidUrl

Each class has a stable ``code``; `docs/reference/errors.md` has a paragraph for each. An error says what happened and
to which thing in its message, what to do in ``hint``, and carries its values as attributes (``error.values``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class AbstractRuntimeError(Exception):
    """Base of all errors of the runtime.

    ``code`` is stable and may be matched by programs; ``hint`` says what to do; each keyword given at construction is
    an attribute of the error (``error.run_id``) and stands in ``values``.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None, **values: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.values: Mapping[str, object] = values

    def __getattr__(self, name: str) -> object:
        values = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(
            f"{type(self).__name__} has no value {name!r}; it has {', '.join(sorted(values)) or 'none'}"
        )

    # KeyError shows its argument's repr; ours are sentences whatever built-in they also inherit.
    def __str__(self) -> str:
        return f"{self.message}. Hint: {self.hint}" if self.hint else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint, dict(self.values)))


def _rebuild(
    kind: type[AbstractRuntimeError], message: str, hint: str | None, values: dict[str, object]
) -> AbstractRuntimeError:
    return kind(message, hint=hint, **values)


class UsageError(AbstractRuntimeError, ValueError):
    """What was asked for makes no sense."""

    code = "usage"


class InvalidValue(UsageError, TypeError):
    """A value that JSON cannot hold and give back equal. ``path``: where it stands, as text like ``vars.a[3].b``."""

    code = "invalid_value"


class InvalidInstant(UsageError):
    """A time stamp that is no instant: it has no offset, or is no ISO 8601 time."""

    code = "invalid_instant"


class InvalidPlan(UsageError, TypeError):
    """A node returned something that is no plan, or a plan that leads nowhere."""

    code = "invalid_plan"


class InvalidPayload(UsageError):
    """An effect was asked for without what it needs."""

    code = "invalid_payload"


class InvalidHandler(UsageError, TypeError):
    """An effect handler that cannot be called as one."""

    code = "invalid_handler"


class InvalidId(UsageError):
    """An id or key of the wrong form."""

    code = "invalid_id"


class UnknownRun(UsageError, KeyError):
    """No run of that id in this store and namespace."""

    code = "unknown_run"


class UnknownNode(UsageError, KeyError):
    """The workflow has no node of that id."""

    code = "unknown_node"


class UnknownWorkflow(UsageError, KeyError):
    """No workflow of that id and version is registered."""

    code = "unknown_workflow"


class UnknownWait(UsageError):
    """The run waits, but not for that key or id."""

    code = "unknown_wait"


class NotWaiting(UsageError):
    """The run does not wait for anything."""

    code = "not_waiting"


class DuplicateRun(UsageError):
    """A run of that id exists, or existed and was deleted."""

    code = "duplicate_run"


class DuplicateWorkflow(UsageError):
    """A workflow of that id and version is registered already."""

    code = "duplicate_workflow"


class WorkflowMismatch(UsageError):
    """The code given belongs to another workflow, or another version of it, than the run."""

    code = "workflow_mismatch"


class WrongStatus(UsageError):
    """The run's status does not allow what was asked for."""

    code = "wrong_status"


class Conflict(AbstractRuntimeError, RuntimeError):
    """Somebody else was first; nothing was written. Reload and look again."""

    code = "conflict"


class Leased(AbstractRuntimeError, RuntimeError):
    """Somebody else holds the run. Values: ``run_id``, ``owner``, ``until`` (instant, µs)."""

    code = "leased"


class EffectError(AbstractRuntimeError, RuntimeError):
    """An effect failed. Handlers raise its children to say what kind of failure it was."""

    code = "effect_failed"


class RetryableError(EffectError):
    """The same effect may succeed later."""

    code = "effect_retryable"


class RateLimited(RetryableError):
    """The other side asks to be left alone for ``retry_after_s`` seconds (None: it did not say)."""

    code = "effect_rate_limited"


class FatalError(EffectError):
    """The same effect will fail again."""

    code = "effect_fatal"


class StoreError(AbstractRuntimeError, RuntimeError):
    """The medium failed. The run is as its last commit left it."""

    code = "store"


class StoreBusy(StoreError):
    """A lock was not free in time."""

    code = "store_busy"


class StoreFull(StoreError):
    """No space left. Nothing of the commit was written."""

    code = "store_full"


class StoreReadOnly(StoreError):
    """The medium does not let us write."""

    code = "store_read_only"


class StoreClosed(StoreError):
    """The store was closed."""

    code = "store_closed"


class StoreMissing(StoreError):
    """The place where the store should be does not exist and is not ours to make."""

    code = "store_missing"


class StoreCorrupt(StoreError):
    """The stored bytes are damaged. Says file and place; nothing is guessed."""

    code = "store_corrupt"


class StoreForeign(StoreError):
    """What stands at that place was not made by this store."""

    code = "store_foreign"


class OutcomeUnknown(StoreError):
    """It cannot be told whether the commit was applied. It was if the record at its place has its hash."""

    code = "outcome_unknown"


class FormatError(AbstractRuntimeError, ValueError):
    """Stored bytes that cannot be read."""

    code = "format"


class FormatTooNew(FormatError):
    """Written by a newer version of the runtime or of a store's schema."""

    code = "format_too_new"


class LedgerCorrupt(FormatError):
    """Records that do not follow from each other. Values: ``run_id``, ``seq``."""

    code = "ledger_corrupt"


class PluginError(AbstractRuntimeError, RuntimeError):
    """A plugin cannot be used."""

    code = "plugin"


class PluginMissing(PluginError):
    """No installed plugin provides what is needed."""

    code = "plugin_missing"


class PluginBroken(PluginError):
    """A plugin is installed and cannot be used. ``failure`` says at which stage and why."""

    code = "plugin_broken"


class PluginConflict(PluginError):
    """Two plugins claim one thing; both are named and both refused."""

    code = "plugin_conflict"


class ConfigError(AbstractRuntimeError, ValueError):
    """The configuration cannot be used."""

    code = "config"


class UnknownSetting(ConfigError):
    """A setting or environment variable that nobody knows, with the nearest that somebody does."""

    code = "unknown_setting"


class InvalidSetting(ConfigError):
    """A setting with a value of the wrong kind."""

    code = "invalid_setting"


class InvalidUrl(ConfigError):
    """A store URL of the wrong form."""

    code = "invalid_url"

"""Workflows: graphs of nodes, and the registry that knows them by id and version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from .errors import DuplicateWorkflow, InvalidPlan, UnknownNode, UnknownWorkflow
from .models import Instant, RunState, StepPlan, instant_text


class RunContext(Protocol):
    """What a node gets beside the run."""

    def now_iso(self) -> str:
        """The store's present time as ISO 8601 text."""
        ...


class DefaultRunContext:
    """What a node gets where nothing else was given: the store's time."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        self._now = now

    def now_iso(self) -> str:
        return instant_text(self._now())


NodeHandler: TypeAlias = Callable[[RunState, RunContext], StepPlan]


@dataclass(frozen=True, slots=True)
class WorkflowSpec:
    """A graph of nodes. ``nodes`` maps a node's id to its handler ``(run, ctx) -> StepPlan``.

    A node is a plain function that decides: it may change ``run.vars`` (a draft, thrown away if the node raises), and
    may run again after a crash, so what touches the world belongs into an effect. ``version``: any text; a run goes on
    under the version it was started with.
    """

    workflow_id: str
    entry_node: str
    nodes: Mapping[str, NodeHandler] = field(repr=False)
    version: str = ""

    def __post_init__(self) -> None:
        if self.entry_node not in self.nodes:
            raise InvalidPlan(
                f"workflow {self.workflow_id!r} has no node {self.entry_node!r} to begin with",
                hint=f"its nodes: {', '.join(sorted(self.nodes)) or 'none'}",
                workflow_id=self.workflow_id,
                node_id=self.entry_node,
            )

    def is_terminal(self, node_id: str) -> bool:
        """Whether a run ends at this node whatever it decides: never, only a plan can end a run. Kept from 0.2."""
        return False

    def get_node(self, node_id: str) -> NodeHandler:
        """The handler of a node. Raises `UnknownNode` (a KeyError) naming workflow and node."""
        try:
            return self.nodes[node_id]
        except KeyError:
            raise UnknownNode(
                f"workflow {self.workflow_id!r} has no node {node_id!r}",
                hint=f"its nodes: {', '.join(sorted(self.nodes))}",
                workflow_id=self.workflow_id,
                node_id=node_id,
            ) from None


class WorkflowRegistry:
    """Workflows by id and version. The version registered last is the one an id alone means.

    ``more``: gives further ones; asked once, when something is looked up that was not registered.
    """

    def __init__(
        self, workflows: Iterable[WorkflowSpec] = (), *, more: Callable[[], Iterable[WorkflowSpec]] | None = None
    ) -> None:
        self._by_id: dict[str, dict[str, WorkflowSpec]] = {}
        self._more = more
        for workflow in workflows:
            self.register(workflow)

    def register(self, workflow: WorkflowSpec) -> None:
        """Raises `DuplicateWorkflow` (a ValueError) where id and version are taken by another spec."""
        versions = self._by_id.setdefault(workflow.workflow_id, {})
        if workflow.version in versions:
            raise DuplicateWorkflow(
                f"workflow {workflow.workflow_id!r} version {workflow.version!r} is registered already",
                hint="unregister it first, or give the new one another version",
                workflow_id=workflow.workflow_id,
                version=workflow.version,
            )
        versions[workflow.version] = workflow

    def unregister(self, workflow_id: str) -> None:
        """Forget all versions; an unknown id is no error."""
        self._by_id.pop(workflow_id, None)

    def get(self, workflow_id: str, version: str | None = None) -> WorkflowSpec | None:
        """The workflow, None if unknown. ``version`` None: the one registered last."""
        found = self._registered(workflow_id, version)
        if found is None and self._more is not None:
            more, self._more = self._more, None
            for workflow in more():
                if self._registered(workflow.workflow_id, workflow.version) is None:  # what was registered goes first
                    self.register(workflow)
            found = self._registered(workflow_id, version)
        return found

    def _registered(self, workflow_id: str, version: str | None) -> WorkflowSpec | None:
        versions = self._by_id.get(workflow_id)
        if not versions:
            return None
        return versions[next(reversed(versions))] if version is None else versions.get(version)

    def get_or_raise(self, workflow_id: str, version: str | None = None) -> WorkflowSpec:
        """Like `get`; raises `UnknownWorkflow` (a KeyError)."""
        found = self.get(workflow_id, version)
        if found is None:
            named = f"{workflow_id!r}" if version is None else f"{workflow_id!r} version {version!r}"
            raise UnknownWorkflow(
                f"no workflow {named} is registered",
                hint=f"registered: {', '.join(self.list_ids()) or 'none'}; pass workflow= or register it",
                workflow_id=workflow_id,
                version=version,
            )
        return found

    def versions(self) -> dict[str, tuple[str, ...]]:
        """Each id with its versions."""
        return {workflow_id: tuple(versions) for workflow_id, versions in self._by_id.items()}

    def list_ids(self) -> list[str]:
        return sorted(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, workflow_id: object) -> bool:
        return workflow_id in self._by_id

    def __repr__(self) -> str:
        return f"WorkflowRegistry({', '.join(self.list_ids())})"

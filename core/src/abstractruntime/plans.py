"""Plans: whether what a node returned leads anywhere."""

from __future__ import annotations

from .codec.delta import blocked_dotted
from .codec.values import MAX_DEPTH
from .effects import EffectSpec
from .errors import InvalidPlan
from .models import Effect, RunState, StepPlan, plain_text
from .waits import BUILT_IN, check_wait
from .workflow import WorkflowSpec

MAX_TIMEOUT_S = 100 * 365 * 86_400


def check_plan(workflow: WorkflowSpec, node: str, plan: object, run: RunState) -> StepPlan:
    """The plan, if it is one that can be followed. Raises `InvalidPlan` naming workflow, node and what is wrong."""
    if not isinstance(plan, StepPlan):
        raise _invalid(
            workflow, node, f"returned {type(plan).__name__}, not a StepPlan", "return StepPlan(node_id=…, …)"
        )
    left: object = run.vars
    if not isinstance(left, dict):
        raise _invalid(workflow, node, f"left run.vars as {type(left).__name__}", "run.vars must stay a dict")
    output: object = plan.complete_output
    if output is not None:
        if not isinstance(output, dict):
            kind = type(output).__name__
            raise _invalid(workflow, node, f"completes with {kind}", "complete_output must be a dict")
        return plan
    if plan.effect is None:
        _check_next(workflow, node, plan.next_node, "returned no effect and no next_node")
        return plan
    _check_effect(workflow, node, plan.effect, run)
    return plan


def _check_effect(workflow: WorkflowSpec, node: str, effect: object, run: RunState) -> None:
    if not isinstance(effect, Effect):
        raise _invalid(
            workflow, node, f"asks for {type(effect).__name__}, not an Effect", "effect=Effect(type=…, payload={…})"
        )
    effect_type: object = effect.type
    payload: object = effect.payload
    result_key: object = effect.result_key
    if not isinstance(effect_type, str) or not effect_type:
        raise _invalid(workflow, node, f"asks for an effect of type {effect_type!r}", "an effect's type is text")
    if not isinstance(payload, dict):
        kind = type(payload).__name__
        raise _invalid(
            workflow, node, f"asks for effect {effect.type!r} with a payload of type {kind}", "payload must be a dict"
        )
    if effect.timeout_s is not None and not 0 < effect.timeout_s <= MAX_TIMEOUT_S:
        raise _invalid(
            workflow,
            node,
            f"gives effect {effect.type!r} timeout_s {effect.timeout_s!r}",
            f"more than 0 and at most {MAX_TIMEOUT_S:,} seconds",
        )
    if result_key is None:
        return
    parts = result_key.split(".") if isinstance(result_key, str) else []
    if not isinstance(result_key, str) or not all(parts) or len(parts) > MAX_DEPTH:
        raise _invalid(workflow, node, f"has result_key {result_key!r}", "a dotted path like 'context.answer'")
    blocked = blocked_dotted(run.vars, result_key)
    if blocked is not None:
        raise _invalid(
            workflow,
            node,
            f"wants its result at {result_key!r}, but vars.{blocked} is no dict",
            "choose another result_key",
        )


def next_after(workflow: WorkflowSpec, node: str, effect: Effect, spec: EffectSpec, plan: StepPlan) -> str:
    """Where the run goes on after the effect: for a built-in wait ``payload.resume_to_node`` goes first."""
    next_node = plan.next_node
    if spec is BUILT_IN.get(effect.type):
        check_wait(effect)
        said = effect.payload.get("resume_to_node")
        next_node = said if isinstance(said, str) else next_node
    _check_next(workflow, node, next_node, f"asks for effect {str(effect.type)!r} and gives no next_node")
    return plain_text(next_node) if next_node is not None else ""


def _check_next(workflow: WorkflowSpec, node: str, next_node: object, missing: str) -> None:
    if next_node is None:
        raise _invalid(workflow, node, missing, "give next_node, or complete_output to end the run")
    if next_node not in workflow.nodes:
        known = ", ".join(sorted(workflow.nodes))
        raise _invalid(
            workflow, node, f"leads to node {next_node!r}, which the workflow does not have", f"its nodes: {known}"
        )


def _invalid(workflow: WorkflowSpec, node: str, what: str, hint: str) -> InvalidPlan:
    return InvalidPlan(
        f"node {node!r} of workflow {workflow.workflow_id!r} {what}",
        hint=hint,
        workflow_id=workflow.workflow_id,
        node_id=node,
    )

"""The built-in waits: effects that only park the run, so that their decision and their outcome are one commit."""

from __future__ import annotations

from .effects import EffectContext, EffectOutcome, EffectSpec
from .errors import InvalidId, InvalidPayload
from .models import Effect, EffectType, JsonDict, Recovery, RunState, WaitReason, WaitState, instant_text, parse_instant
from .store.fence import check_id


def wait_event(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
    """Park until somebody answers ``wait_key``."""
    key = _required_text(effect, "wait_key")
    return EffectOutcome.waiting(_wait(effect, ctx, WaitReason.EVENT, key))


def ask_user(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
    """Park until a person answers ``prompt``. Without a ``wait_key`` the key names run and node, and from the node's
    second visit on the step, so that an old answer cannot answer the next question."""
    _required_text(effect, "prompt")
    key = effect.payload.get("wait_key") or default_key("user", run.run_id, run.current_node, ctx)
    return EffectOutcome.waiting(_wait(effect, ctx, WaitReason.USER, str(key)))


def wait_until(run: RunState, effect: Effect, ctx: EffectContext) -> EffectOutcome:
    """Park until the instant ``until``; one that is past completes at once."""
    until = parse_instant(_required_text(effect, "until"))
    if until <= ctx.now:
        return EffectOutcome.completed(timer_result(instant_text(until)))
    key = str(effect.payload.get("wait_key") or default_key("until", run.run_id, run.current_node, ctx))
    return EffectOutcome.waiting(_wait(effect, ctx, WaitReason.UNTIL, key, until=instant_text(until)))


def check_wait(effect: Effect) -> None:
    """Raises `InvalidPayload` for a wait that lacks what it needs, `InvalidInstant` for a time that is none."""
    needed = {EffectType.WAIT_EVENT: "wait_key", EffectType.ASK_USER: "prompt", EffectType.WAIT_UNTIL: "until"}
    value = _required_text(effect, needed[EffectType(effect.type)])
    if effect.type == EffectType.WAIT_UNTIL:
        parse_instant(value)
    if effect.payload.get("wait_key"):
        check_key(str(effect.payload["wait_key"]))


def check_key(key: object) -> str:
    """The key, if a store can keep it: found out only by the commit, the run could never park. Raises `InvalidId`."""
    if not isinstance(key, str):
        raise InvalidId(
            f"a wait key must be text, not {type(key).__name__}", hint="wait_key='approval'", name="wait_key"
        )
    check_id(key, "wait key")
    return key


def timer_result(until: str) -> JsonDict:
    """What a timer leaves at its ``result_key``."""
    return {"until": until, "ready": True}


def default_key(word: str, run_id: str, node: str, ctx: EffectContext) -> str:
    """``word:<run>:<node>``; from the node's second visit on with the step behind it."""
    return f"{word}:{run_id}:{node}" if ctx.visit == 1 else f"{word}:{run_id}:{node}:{ctx.step}"


def _wait(effect: Effect, ctx: EffectContext, reason: WaitReason, key: str, until: str | None = None) -> WaitState:
    return WaitState(
        reason=reason, wait_key=key, until=until, resume_to_node=ctx.default_next_node, result_key=effect.result_key
    )


def _required_text(effect: Effect, name: str) -> str:
    value = effect.payload.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidPayload(
            f"effect {effect.type} needs {name!r} in its payload, as text; it has {value!r}",
            hint=f"payload={{'{name}': …}}",
            effect_type=effect.type,
        )
    return value


BUILT_IN: dict[str, EffectSpec] = {
    EffectType.WAIT_EVENT.value: EffectSpec(handler=wait_event, recovery=Recovery.IDEMPOTENT),
    EffectType.ASK_USER.value: EffectSpec(handler=ask_user, recovery=Recovery.IDEMPOTENT),
    EffectType.WAIT_UNTIL.value: EffectSpec(handler=wait_until, recovery=Recovery.IDEMPOTENT),
}
"""Handlers of the engine itself. They touch nothing, so it calls them without committing the decision first."""

import dataclasses

import pytest

from abstractruntime import (
    DefaultEffectPolicy,
    Effect,
    EffectOutcome,
    EffectSpec,
    EffectType,
    NoRetryPolicy,
    Recovery,
    RetryPolicy,
    RunState,
    Runtime,
    StepPlan,
    WorkflowSpec,
    compute_idempotency_key,
)
from abstractruntime.errors import InvalidValue, UsageError
from abstractruntime.retry import step_key
from abstractruntime.store.memory import MemoryStore

LLM = Effect("llm_call", {"prompt": "é", "n": 1}, "answer")
TOOLS = Effect("tool_calls")
ASK = Effect("ask_user")


def attempts(policy):
    return [policy.max_attempts(effect) for effect in (LLM, TOOLS, ASK)]


def waits(policy, count=8):
    return [policy.backoff_seconds(effect=LLM, attempt=attempt) for attempt in range(1, count + 1)]


def state(step=0, run_id="r"):
    run = RunState.new(workflow_id="w", entry_node="n")
    run.run_id, run.step = run_id, step
    return run


def test_the_default_is_one_attempt_and_waits_that_double_up_to_a_minute():
    assert attempts(DefaultEffectPolicy()) == [1, 1, 1]
    assert waits(DefaultEffectPolicy()) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_retry_policy_tries_llm_and_tool_calls_again_and_waits_half_a_minute_at_most():
    assert attempts(RetryPolicy()) == [3, 2, 1]
    assert waits(RetryPolicy()) == [1, 2, 4, 8, 16, 30, 30, 30]
    assert attempts(RetryPolicy(llm_max_attempts=7, tool_max_attempts=1)) == [7, 1, 1]


def test_no_retry_is_one_attempt_for_everything():
    assert attempts(NoRetryPolicy()) == [1, 1, 1]


@pytest.mark.parametrize("key", ["llm_call", EffectType.LLM_CALL])
def test_a_type_of_effect_may_have_its_own_number_of_attempts(key):
    policy = DefaultEffectPolicy(default_max_attempts=2, effect_max_attempts={key: 5})
    assert attempts(policy) == [5, 2, 2]
    assert policy.max_attempts(Effect(EffectType.LLM_CALL)) == 5


def test_very_late_attempts_wait_as_long_as_late_ones():
    assert DefaultEffectPolicy().backoff_seconds(effect=LLM, attempt=100_000) == 60


@pytest.mark.parametrize(
    "arguments",
    [{"default_max_attempts": 0}, {"effect_max_attempts": {"llm_call": 0}}, {"default_backoff_base": -1}],
)
def test_numbers_that_make_no_sense_are_refused(arguments):
    with pytest.raises(UsageError):
        DefaultEffectPolicy(**arguments)


def test_a_policy_may_be_extended_as_a_data_class():
    @dataclasses.dataclass
    class Patient(DefaultEffectPolicy):
        patience_s: float = 5.0

        def backoff_seconds(self, *, effect, attempt):
            return self.patience_s * attempt

    assert waits(Patient(default_max_attempts=3), 3) == [5, 10, 15]


class TestKeys:
    def test_every_attempt_of_a_step_has_the_same_key_and_every_step_another(self):
        policy = DefaultEffectPolicy()

        def key(step, run_id="r"):
            return policy.idempotency_key(run=state(step, run_id), node_id="n", effect=LLM)

        assert key(1) == key(1)
        assert len({key(1), key(2), key(1, run_id="other")}) == 3

    def test_a_run_under_the_default_policy_has_the_keys_of_a_run_without_one(self):
        def keys(policy):
            found = []

            def note(run, effect, ctx):
                found.append(ctx.key)
                return EffectOutcome.completed(None)

            def node(run, ctx):
                if run.step > 3:
                    return StepPlan("n", complete_output={})
                return StepPlan("n", effect=Effect("note"), next_node="n")

            workflow = WorkflowSpec("w", "n", {"n": node})
            handlers = {"note": EffectSpec(handler=note, recovery=Recovery.PURE)}
            with Runtime(store=MemoryStore(), effect_handlers=handlers, effect_policy=policy) as runtime:
                run_id = runtime.start(workflow=workflow, run_id="r")
                runtime.tick(workflow=workflow, run_id=run_id)
            return found

        assert keys(RetryPolicy()) == keys(None) == [step_key("r", step) for step in (1, 2, 3)]

    def test_the_key_of_a_step_does_not_read_its_payload(self):
        # A chat is the payload of each of its steps: reading it would make n steps cost n².
        policy = DefaultEffectPolicy()
        unreadable = Effect("llm_call", {"x": object()})
        assert policy.idempotency_key(run=state(3), node_id="n", effect=unreadable)

    def test_a_state_outside_of_any_ledger_has_the_key_of_its_content(self):
        found = DefaultEffectPolicy().idempotency_key(run=state(), node_id="n", effect=LLM)
        assert found == compute_idempotency_key(run_id="r", node_id="n", effect=LLM)

    def test_the_key_of_a_content_is_32_hex_digits_and_differs_with_each_part(self):
        base = {"run_id": "r", "node_id": "n", "effect": LLM}
        variants = [
            base,
            base | {"run_id": "r2"},
            base | {"node_id": "n2"},
            base | {"effect": dataclasses.replace(LLM, type="tool_calls")},
            base | {"effect": dataclasses.replace(LLM, payload={"prompt": "e", "n": 1})},
            base | {"effect": dataclasses.replace(LLM, result_key="other")},
        ]
        keys = [compute_idempotency_key(**variant) for variant in variants]
        assert len(set(keys)) == len(variants)
        assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in keys)

    def test_the_order_of_a_payloads_keys_does_not_matter(self):
        turned = dataclasses.replace(LLM, payload={"n": 1, "prompt": "é"})
        keys = {compute_idempotency_key(run_id="r", node_id="n", effect=effect) for effect in (LLM, turned)}
        assert len(keys) == 1

    @pytest.mark.parametrize("value", [object(), float("nan"), "\ud800", {1, 2}])
    def test_a_payload_that_is_no_json_is_refused(self, value):
        with pytest.raises(InvalidValue, match="payload of effect 'llm_call' at node 'n'"):
            compute_idempotency_key(run_id="r", node_id="n", effect=Effect("llm_call", {"x": value}))

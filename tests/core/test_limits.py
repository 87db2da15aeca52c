import dataclasses

import pytest

from abstractruntime.errors import InvalidValue
from abstractruntime.limits import RuntimeConfig, limit_status, limit_warnings, limits_update
from abstractruntime.models import LimitWarning

CONFIG = RuntimeConfig()


def vars_with(**limits):
    return {"_limits": {**CONFIG.to_limits_dict(), **limits}}


def vars_with_history(messages, **limits):
    return {**vars_with(**limits), "context": {"messages": [{"role": "user"}] * messages}}


class TestConfig:
    def test_defaults_are_those_of_0_2(self):
        assert CONFIG.to_limits_dict() == {
            "max_iterations": 25,
            "current_iteration": 0,
            "max_tokens": 32768,
            "max_output_tokens": None,
            "estimated_tokens_used": 0,
            "max_history_messages": -1,
            "warn_iterations_pct": 80,
            "warn_tokens_pct": 80,
        }

    @pytest.mark.parametrize(
        ("config", "max_tokens"),
        [
            (RuntimeConfig(max_tokens=5, model_capabilities={"max_tokens": 9}), 5),
            (RuntimeConfig(model_capabilities={"max_tokens": 9}), 9),
            (RuntimeConfig(model_capabilities={"max_tokens": None}), 32768),
            (RuntimeConfig(), 32768),
        ],
    )
    def test_the_maximum_of_tokens_is_the_given_one_then_the_models_then_32768(self, config, max_tokens):
        assert config.to_limits_dict()["max_tokens"] == max_tokens

    def test_capabilities_replace_the_older_ones_in_a_new_config(self):
        first = RuntimeConfig(max_iterations=3).with_capabilities({"max_tokens": 9})
        second = first.with_capabilities({"other": 1})
        assert (first.model_capabilities, second.model_capabilities) == ({"max_tokens": 9}, {"other": 1})
        assert second.max_iterations == 3

    def test_a_config_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            CONFIG.max_iterations = 1


class TestStatus:
    def test_a_fresh_run_has_used_nothing(self):
        assert limit_status(vars_with(), CONFIG) == {
            "iterations": {"current": 0, "max": 25, "pct": 0.0, "warning": False},
            "tokens": {"estimated_used": 0, "max": 32768, "pct": 0.0, "warning": False},
            "history": {"max_messages": -1},
        }

    @pytest.mark.parametrize(
        ("current", "maximum", "pct", "warning"),
        [
            (19, 25, 76.0, False),
            (20, 25, 80.0, True),
            (25, 25, 100.0, True),
            (26, 25, 104.0, True),
            (1, 3, 33.3, False),
        ],
    )
    def test_iterations_are_counted_in_percent_of_their_maximum(self, current, maximum, pct, warning):
        status = limit_status(vars_with(current_iteration=current, max_iterations=maximum), CONFIG)
        assert status["iterations"] == {"current": current, "max": maximum, "pct": pct, "warning": warning}

    def test_below_zero_means_unlimited(self):
        given = vars_with(current_iteration=1000, max_iterations=-1)
        assert limit_status(given, CONFIG)["iterations"] == {"current": 1000, "max": -1, "pct": 0, "warning": False}
        assert limit_warnings(given, CONFIG) == []

    @pytest.mark.parametrize("absent", [None, 0, "many", True, float("nan")])
    def test_a_maximum_that_is_no_number_counts_as_configured(self, absent):
        given = vars_with(max_iterations=absent, current_iteration=5)
        assert limit_status(given, RuntimeConfig(max_iterations=10))["iterations"]["max"] == 10

    @pytest.mark.parametrize("vars", [{}, {"_limits": None}, {"_limits": 5}, {"_limits": {}}])
    def test_a_run_without_limits_has_the_configured_ones(self, vars):
        assert limit_status(vars, RuntimeConfig(max_iterations=7))["iterations"]["max"] == 7

    def test_a_limited_history_is_counted_over_the_messages_of_the_context(self):
        status = limit_status(vars_with_history(7, max_history_messages=10), CONFIG)
        assert status["history"] == {"max_messages": 10, "current": 7, "pct": 70.0, "warning": False}


class TestWarnings:
    @pytest.mark.parametrize(
        ("current", "status"),
        [(0, None), (19, None), (20, "warning"), (24, "warning"), (25, "exceeded"), (30, "exceeded")],
    )
    def test_near_the_maximum_is_a_warning_and_at_it_is_exceeded(self, current, status):
        expected = [] if status is None else [LimitWarning("iterations", status, current, 25, current * 4.0)]
        assert limit_warnings(vars_with(current_iteration=current), CONFIG) == expected

    def test_status_and_warnings_agree_at_the_edge_that_rounding_blurs(self):
        given = vars_with(estimated_tokens_used=26214)
        assert limit_status(given, CONFIG)["tokens"] == {
            "estimated_used": 26214,
            "max": 32768,
            "pct": 80.0,
            "warning": False,
        }
        assert limit_warnings(given, CONFIG) == []
        assert limit_warnings(vars_with(estimated_tokens_used=26215), CONFIG)[0].status == "warning"

    def test_the_runs_own_percentage_goes_before_the_configured_one(self):
        given = vars_with(warn_iterations_pct=50, current_iteration=13)
        assert [warning.status for warning in limit_warnings(given, RuntimeConfig(warn_iterations_pct=90))] == [
            "warning"
        ]

    def test_a_percentage_of_zero_never_warns_but_exceeding_is_still_told(self):
        assert limit_warnings(vars_with(warn_iterations_pct=0, current_iteration=24), CONFIG) == []
        assert limit_warnings(vars_with(warn_iterations_pct=0, current_iteration=25), CONFIG)[0].status == "exceeded"

    def test_a_full_history_is_no_warning_and_a_longer_one_is_exceeded(self):
        assert limit_warnings(vars_with_history(10, max_history_messages=10), CONFIG) == []
        assert limit_warnings(vars_with_history(11, max_history_messages=10), CONFIG) == [
            LimitWarning("history", "exceeded", 11, 10, 110.0)
        ]

    def test_several_limits_are_told_in_a_fixed_order(self):
        given = vars_with_history(3, max_history_messages=2, current_iteration=25, estimated_tokens_used=40000)
        assert [warning.limit_type for warning in limit_warnings(given, CONFIG)] == ["iterations", "tokens", "history"]


class TestUpdate:
    def test_known_keys_are_taken_and_others_ignored(self):
        updates = {"max_iterations": 50, "max_tokens": None, "warn_tokens_pct": 75.5, "iterations": 1, "colour": "red"}
        assert limits_update(CONFIG.to_limits_dict(), updates) == {
            "max_iterations": 50,
            "max_tokens": None,
            "warn_tokens_pct": 75.5,
        }

    def test_what_stands_there_already_is_no_change(self):
        assert limits_update({"max_iterations": 25}, {"max_iterations": 25, "max_tokens": 9}) == {"max_tokens": 9}

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("max_iterations", "x"),
            ("max_iterations", True),
            ("max_iterations", None),
            ("max_tokens", 1.5),
            ("warn_tokens_pct", None),
            ("warn_tokens_pct", float("nan")),
        ],
    )
    def test_a_value_of_the_wrong_kind_is_refused_by_its_path(self, key, value):
        with pytest.raises(InvalidValue, match=f"vars._limits.{key} must be") as caught:
            limits_update({}, {key: value})
        assert caught.value.path == f"vars._limits.{key}"

    def test_the_inputs_stay_as_they_are(self):
        limits, updates = {"max_iterations": 1}, {"max_iterations": 2}
        limits_update(limits, updates)
        assert (limits, updates) == ({"max_iterations": 1}, {"max_iterations": 2})

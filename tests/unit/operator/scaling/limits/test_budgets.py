"""Budgets in replicas: ceilings, precedence and messages."""

from collections.abc import Callable
from typing import Any

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.v1 import Spec, parse
from r1_operator.plan.scaling.limits.budgets import ceilings_of, gpus_per_replica
from r1_operator.plan.scaling.policy import Ceiling, UpBehavior, policy_of
from r1_operator.plan.scaling.reasons import DecisionReason

Build = Callable[..., Any]
TWO_GPUS = {"limits": {"nvidia.com/gpu": 2}}
GONE = Unavailable("StaleSignals", "No gateway has answered for 20 s (gw-0).")


def spec_of(budget: dict[str, Any] | None, **more: Any) -> Spec:
    autoscaling = {"maxReplicas": 20, "metrics": [{"type": "RequestsPerSecond", "target": 10}]}
    if budget is not None:
        autoscaling["budget"] = budget
    spec = {"resources": TWO_GPUS, "autoscaling": autoscaling, **more}
    manifest = {"apiVersion": "deepseek.ai/v1", "kind": "R1Inference", "metadata": {"name": "r1"}}
    return parse({**manifest, "spec": spec}, strict=True).spec


class TestBounds:
    @pytest.mark.parametrize(
        ("budget", "replicas", "reason", "clause"),
        [
            (
                {"gpus": 17},
                8,
                DecisionReason.AT_GPU_BUDGET,
                "the budget of 17 GPUs allows 8 at 2 per replica",
            ),
            (
                {"cost": {"limitPerHour": "40", "pricePerGpuHour": "2.5"}},
                8,
                DecisionReason.AT_COST_BUDGET,
                "the budget of 40 per hour allows 8 at 2 GPUs per replica, 2.5 each",
            ),
            (
                {"cost": {"limitPerHour": "0.3", "pricePerReplicaHour": "0.1"}},
                3,
                DecisionReason.AT_COST_BUDGET,
                "the budget of 0.3 per hour allows 3 at 0.1 per replica",
            ),
            (
                {"power": {"limitWatts": "10k", "wattsPerReplica": 1500}},
                6,
                DecisionReason.AT_POWER_BUDGET,
                "the power limit of 10k W allows 6 at 1500 W per replica",
            ),
        ],
    )
    def test_each_budget_is_a_ceiling_with_its_clause(
        self, budget: dict[str, Any], replicas: int, reason: DecisionReason, clause: str
    ) -> None:
        assert ceilings_of(spec_of(budget)) == (Ceiling(replicas, reason, clause),)

    def test_without_a_budget_there_is_no_bound(self) -> None:
        assert ceilings_of(spec_of(None)) == ()
        assert ceilings_of(Spec()) == ()


class TestGpusOfAReplica:
    def test_those_of_the_resources(self) -> None:
        assert gpus_per_replica(spec_of(None)) == 2
        requests = {"requests": {"nvidia.com/gpu": "4"}}
        assert gpus_per_replica(spec_of(None, resources=requests)) == 4
        assert gpus_per_replica(Spec()) == 0

    def test_accelerators_of_the_template_count(self) -> None:
        engine = {"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "8"}}}
        helper = {"name": "helper", "resources": {"limits": {"nvidia.com/gpu": 1}}}
        template = {"spec": {"containers": [engine, helper, {"name": "logs"}]}}
        assert gpus_per_replica(spec_of(None, template=template)) == 9

    @pytest.mark.parametrize("containers", ["x", [1], [{"resources": 3}], [{"resources": {}}], {}])
    def test_a_template_that_makes_no_sense_adds_nothing(self, containers: Any) -> None:
        assert gpus_per_replica(spec_of(None, template={"spec": {"containers": containers}})) == 2


class TestDecisions:
    def test_the_tightest_binds_and_says_what_would_be_needed(self, stage: Build) -> None:
        spec = spec_of({"gpus": 16, "power": {"limitWatts": 9000, "wattsPerReplica": 1000}})
        assert spec.autoscaling is not None
        policy = policy_of(spec.autoscaling, ceilings_of(spec))
        story = stage(replicas=8)
        story.policy = policy
        decision = story.once(63.0)
        assert (decision.replicas, decision.reason) == (8, DecisionReason.AT_GPU_BUDGET)
        assert decision.message == (
            "8 replicas: the budget of 16 GPUs allows 8 at 2 per replica; demand needs 9."
        )
        assert decision.limited
        assert decision.inputs["policy"]["budgets"] == {"AtGpuBudget": 8, "AtPowerBudget": 9}

    def test_a_budget_above_the_maximum_is_silent(self, stage: Build) -> None:
        story = stage(replicas=9, max_replicas=10, ceilings=(ceiling(10), ceiling(12)))
        assert story.once(140.0).reason is DecisionReason.AT_MAX_REPLICAS

    def test_a_budget_that_fits_exactly_limits_nothing(self, stage: Build) -> None:
        decision = stage(replicas=8, ceilings=(ceiling(8),)).once(56.0)
        assert decision.reason is DecisionReason.WITHIN_TARGET

    @pytest.mark.parametrize("demand", [42.0, 140.0, GONE])
    def test_a_lowered_budget_applies_at_once_even_without_metrics(
        self, stage: Build, demand: Any
    ) -> None:
        decision = stage(replicas=12, ceilings=(ceiling(5),)).once(demand)
        assert (decision.replicas, decision.reason) == (5, DecisionReason.AT_GPU_BUDGET)

    def test_an_immediate_cut_is_not_reported_as_needed_demand(self, stage: Build) -> None:
        """Without metrics, or during a slow scale-down, the present count is not the needed one."""
        decision = stage(replicas=12, ceilings=(ceiling(5),)).once(GONE)
        assert decision.message == "5 replicas: the budget allows 5; lowered from 12 at once."
        decision = stage(replicas=12, max_replicas=5).once(GONE)
        assert decision.message == "5 replicas (maxReplicas): lowered from 12 at once."

    def test_windows_and_rate_limits_stay_below_the_budget(self, stage: Build) -> None:
        story = stage(replicas=1, ceilings=(ceiling(7),), up=UpBehavior(limits=()))
        assert {story.once(140.0).replicas for _ in range(3)} == {7}

    @pytest.mark.parametrize("demand", [0.0, 25.0, 140.0, GONE])
    def test_the_minimum_overrides_a_budget_and_the_message_names_it(
        self, stage: Build, demand: Any
    ) -> None:
        """The schema rejects this, except for GPUs that spec.template adds."""
        decision = stage(replicas=4, min_replicas=4, ceilings=(ceiling(2),)).once(demand)
        assert (decision.replicas, decision.reason) == (4, DecisionReason.OVER_BUDGET)
        assert decision.message == (
            "4 replicas (minReplicas), over budget: the budget allows 2. Lower minReplicas or raise "
            "the budget."
        )
        assert decision.limited


def ceiling(replicas: int) -> Ceiling:
    return Ceiling(replicas, DecisionReason.AT_GPU_BUDGET, f"the budget allows {replicas}")

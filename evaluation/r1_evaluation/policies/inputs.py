"""Inputs that every policy shares, and the signature of a policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from r1_evaluation.baselines import dynamo
from r1_evaluation.baselines.contrib import crane
from r1_evaluation.policies import vectorized
from r1_evaluation.policies.forecast_replay import ReplayedForecast, replay_forecast
from r1_evaluation.reference_programs.predictions import predict
from r1_evaluation.traces.scenario import MAX_REPLICAS, STEP_SECONDS, Floats, Ints, Scenario
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.policy import ForecastPolicy, MetricTarget, ScalingPolicy


@dataclass(frozen=True)
class PolicyInputs:
    """A scenario with the inputs that all policies share. Slow inputs are computed once, on first use."""

    scenario: Scenario
    max_replicas: int = MAX_REPLICAS
    min_replicas: int = 1
    quantile: float | None = None
    """Forecast quantile that `ours` scales by, as `quantilePercent`. None: the newsvendor quantile."""
    predict: Callable[[str, Sequence[float], int], Floats] = predict
    """Runs a peer's predictor (name, values, first); by default in the peer's own package."""

    @cached_property
    def reading(self) -> Floats:
        """Demand as controllers observe it at the decision steps, requests/s."""
        return self.scenario.reading[self.scenario.decision_steps]

    @cached_property
    def newest(self) -> Floats:
        """Demand of the newest finished step at the decision steps, requests/s: 15 s old."""
        known = np.concatenate([self.scenario.demand[:1].repeat(2), self.scenario.demand[:-2]])
        return known[self.scenario.decision_steps]

    @cached_property
    def crane(self) -> Floats:
        """Crane's forecast of the next hour's peak at the decision steps, requests/s."""
        return crane.predicted_peak(self.scenario)

    @cached_property
    def replayed_forecast(self) -> ReplayedForecast:
        """The forecaster's replay at the decision steps."""
        return replay_forecast(self.scenario)

    @property
    def lead_seconds(self) -> float:
        """Lead time: a replica start and one decision period."""
        return self.scenario.start_seconds + STEP_SECONDS

    @cached_property
    def _dynamo(self) -> dict[str, Floats]:
        return {}

    def dynamo(self, predictor: str) -> Floats:
        """Return the requests that Dynamo's predictor forecasts for each interval of the decision steps.

        Raises NotInstalled when the predictor needs its package and the package cannot be installed.
        """
        if predictor not in self._dynamo:
            values, warm = dynamo.requests_per_interval(self.scenario)
            builtin = {"constant": dynamo.constant, "kalman": dynamo.kalman}
            run = builtin.get(predictor) or partial(self.predict, predictor)
            self._dynamo[predictor] = run(values.tolist(), warm)
        return self._dynamo[predictor]

    def policy(self, target: float) -> ScalingPolicy:
        """Return the production policy that the arrays reproduce."""
        metric = MetricTarget(MetricType.REQUESTS_PER_SECOND, self.scenario.capacity)
        return ScalingPolicy(
            1,
            self.max_replicas,
            (metric,),
            target_utilization=target,
            forecast=ForecastPolicy(quantile=self.quantile),
        )

    def replicas(self, rate: Floats, target: float) -> Ints:
        """Return the replicas that a rate (requests/s) needs at a target utilisation."""
        return vectorized.round_up_replicas(rate / (self.scenario.capacity * target))


Policy = Callable[[PolicyInputs, float], Ints]
"""(inputs, target utilisation) -> replica count at each decision step."""


def demand_in_replicas(inputs: PolicyInputs, target: float) -> Floats:
    """Return the observed demand in replicas at the target utilisation."""
    return inputs.reading / (inputs.scenario.capacity * target)

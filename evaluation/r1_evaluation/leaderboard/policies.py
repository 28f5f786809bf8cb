"""The policies on the board: each gives the course of counts for a target utilisation.

`ours` and its variants are the production rules; the others are what people run. All see the
same readings, and every target is tuned alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from r1_evaluation.baselines import (
    aibrix,
    crane,
    dynamo,
    dynamo_load,
    keda_triggers,
    knative_kubeai,
    phpa,
    phpa_seasons,
    ray_serve,
    wva,
)
from r1_evaluation.leaderboard import vectorized
from r1_evaluation.leaderboard.fluid import coming_max, running_max
from r1_evaluation.leaderboard.forecast_replay import ReplayedForecast, perfect, replay_forecast
from r1_evaluation.leaderboard.scenario import (
    DAY_SECONDS,
    MAX_REPLICAS,
    STEP_SECONDS,
    Floats,
    Ints,
    Scenario,
)
from r1_evaluation.reference_programs.predictions import foretold
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.policy import (
    DownBehavior,
    ForecastPolicy,
    MetricTarget,
    ScalingPolicy,
)
from r1_operator.plan.scaling.predictive import OVERFORECAST_LEADS, recent_peak_span

_DAY = round(DAY_SECONDS / STEP_SECONDS)
_HALF_HOUR = round(1800 / STEP_SECONDS)
_DOWN = DownBehavior()


@dataclass(frozen=True)
class PolicyInputs:
    """A world with what all policies share; what is slow to make is made once, when asked for."""

    world: Scenario
    most: int = MAX_REPLICAS
    least: int = 1
    quantile: float | None = None
    """Of the forecast that `ours` goes by, as `quantilePercent`; None: the newsvendor's."""
    foretell: Callable[[str, Sequence[float], int], Floats] = foretold
    """What an owner's predictor says (name, values, first): its own package, unless given."""

    @cached_property
    def reading(self) -> Floats:
        """What controllers see at the played steps, requests/s."""
        return self.world.reading[self.world.played]

    @cached_property
    def newest(self) -> Floats:
        """The newest step that is known at the played steps, requests/s: 15 s old."""
        known = np.concatenate([self.world.demand[:1].repeat(2), self.world.demand[:-2]])
        return known[self.world.played]

    @cached_property
    def crane(self) -> Floats:
        """What Crane foretells for the hour at the played steps, requests/s."""
        return crane.foretold(self.world)

    @cached_property
    def foresight(self) -> ReplayedForecast:
        """What the forecaster says at the played steps."""
        return replay_forecast(self.world)

    @property
    def lead_seconds(self) -> float:
        """How long before it is needed a replica has to be asked for: its start and a decision."""
        return self.world.start_seconds + STEP_SECONDS

    @cached_property
    def _dynamo(self) -> dict[str, Floats]:
        return {}

    def dynamo(self, predictor: str) -> Floats:
        """Requests that Dynamo's predictor says of each interval from the first played on.

        Raises NotToBeHad where it needs its package and that cannot be had.
        """
        if predictor not in self._dynamo:
            values, warm = dynamo.requests_per_interval(self.world)
            ours = {"constant": dynamo.constant, "kalman": dynamo.kalman}
            say = ours.get(predictor) or partial(self.foretell, predictor)
            self._dynamo[predictor] = say(values.tolist(), warm)
        return self._dynamo[predictor]

    def policy(self, target: float) -> ScalingPolicy:
        """Return the production policy that the arrays stand for."""
        metric = MetricTarget(MetricType.REQUESTS_PER_SECOND, self.world.capacity)
        return ScalingPolicy(
            1,
            self.most,
            (metric,),
            target_utilization=target,
            forecast=ForecastPolicy(quantile=self.quantile),
        )

    def replicas(self, rate: Floats, target: float) -> Ints:
        """Return the replicas that a rate (requests/s) needs at a target utilisation."""
        return vectorized.whole(rate / (self.world.capacity * target))


Policy = Callable[[PolicyInputs, float], Ints]


def ours(bench: PolicyInputs, target: float) -> Ints:
    """The production policy with the forecast that its gate lets act."""
    said = bench.foresight
    level = bench.policy(target).peak_quantile(bench.lead_seconds)
    peak = np.where(said.acts, said.at(level), 0.0)
    return _foreseen(bench, target, peak)


def misled(bench: PolicyInputs, target: float, factor: float) -> Ints:
    """The same with every forecast wrong by a factor and a gate that lets it act nevertheless."""
    said = bench.foresight
    peak = said.at(bench.policy(target).peak_quantile(bench.lead_seconds))
    return _foreseen(bench, target, np.where(np.isnan(peak), 0.0, factor * peak))


def ours_no_forecast(bench: PolicyInputs, target: float) -> Ints:
    """The production policy on real time alone."""
    needed, kept = _alone(bench, target)
    window = _DOWN.stabilization_window_seconds
    return vectorized.stabilized(needed, kept, bench.most, window, bench.least)


def oracle(bench: PolicyInputs, target: float) -> Ints:
    """What the true maximum over the start-up time asks for, and nothing beside it."""
    needed = bench.replicas(perfect(bench.world), bench.policy(target).peak_utilization)
    return vectorized.stabilized(needed, needed, bench.most, 0.0, bench.least)


def last_value(bench: PolicyInputs, target: float) -> Ints:
    """The production policy with a forecast that says the present and always acts."""
    return _foreseen(bench, target, bench.reading)


def hpa(bench: PolicyInputs, target: float) -> Ints:
    """HorizontalPodAutoscaler, autoscaling/v2, on the demand metric with default behaviour."""
    return vectorized.plain_autoscaler(_worth(bench, target), bench.most, bench.least)


def hpa_without_behavior(bench: PolicyInputs, target: float) -> Ints:
    """The same without `spec.behavior` in its manifest, which follows older rules."""
    return vectorized.plain_autoscaler(_worth(bench, target), bench.most, bench.least, stanza=False)


def seasonal_naive(bench: PolicyInputs, target: float) -> Ints:
    """HPA on the larger of now and the highest of half an hour at the same time last week (last
    day where there is no week), half an hour early: the trigger that Mimir runs on."""
    reading = bench.world.reading
    season = 7 * _DAY if bench.world.begin >= 7 * _DAY else _DAY
    then = np.arange(bench.world.begin, len(reading)) - season
    ahead = coming_max(reading, _HALF_HOUR)
    past = np.where(then >= 0, ahead[np.maximum(then, 0)], 0.0)
    worth = np.maximum(bench.reading, past) / (bench.world.capacity * target)
    return vectorized.plain_autoscaler(worth, bench.most, bench.least)


def crane_dsp(bench: PolicyInputs, target: float) -> Ints:
    """HPA on the larger of now and what Crane foretells for the hour."""
    worth = np.maximum(bench.reading, bench.crane) / (bench.world.capacity * target)
    return vectorized.plain_autoscaler(worth, bench.most, bench.least)


def phpa_linear(bench: PolicyInputs, target: float) -> Ints:
    """The predictive HPA with a line through its own last counts."""
    return phpa.linear(_worth(bench, target), bench.most, bench.least)


def phpa_holt_winters(
    model: Callable[[], Callable[[int], int]], bench: PolicyInputs, target: float
) -> Ints:
    """The predictive HPA with a day as season, told the two days before as well."""
    world = bench.world
    first = max(0, world.begin - phpa_seasons.STORED * phpa_seasons.SEASON)
    worth = world.reading[first:] / (world.capacity * target)
    return phpa.course(worth, bench.most, bench.least, model())[world.begin - first :]


def wva_v1(bench: PolicyInputs, target: float) -> Ints:
    """llm-d's WVA, saturation analyzer V1."""
    load = bench.newest / bench.world.capacity
    return np.maximum(wva.v1(load, target, bench.most, bench.world.start_steps), bench.least)


def wva_v2(bench: PolicyInputs, target: float) -> Ints:
    """llm-d's WVA, saturation analyzer V2."""
    load = bench.newest / bench.world.capacity
    return np.maximum(wva.v2(load, target, bench.most, bench.world.start_steps), bench.least)


def keda_queue(bench: PolicyInputs, target: float) -> Ints:
    """KEDA with llm-d's triggers on running and queued requests."""
    demand, capacity = bench.world.demand[bench.world.played], bench.world.capacity
    return keda_triggers.course(
        demand, capacity, target, bench.most, bench.world.start_steps, bench.least
    )


def threshold(bench: PolicyInputs, target: float) -> Ints:
    """The down policy `Threshold`: down only when the need is below 0.6 of the count."""
    needed = bench.replicas(bench.reading, target)
    return vectorized.thresholded(needed, bench.most, _DOWN.threshold_percent, bench.least)


def knative(bench: PolicyInputs, target: float) -> Ints:
    """Knative's KPA: the reading as its stable window, the newest step that is known as panic."""
    panic = bench.newest / (bench.world.capacity * target)
    return np.maximum(
        knative_kubeai.knative(_worth(bench, target), panic, bench.most, bench.world.start_steps),
        bench.least,
    )


def aibrix_apa(bench: PolicyInputs, target: float, *, as_written: bool = False) -> Ints:
    """AIBrix' APA, as documented unless `as_written`."""
    course = aibrix.apa(_worth(bench, target), bench.most, as_written=as_written)
    return np.maximum(course, bench.least)


def aibrix_kpa(bench: PolicyInputs, target: float, *, as_written: bool = False) -> Ints:
    """AIBrix' KPA, as documented unless `as_written`."""
    course = aibrix.kpa(_worth(bench, target), bench.most, as_written=as_written)
    return np.maximum(course, bench.least)


def kubeai(bench: PolicyInputs, target: float) -> Ints:
    """KubeAI's mean of ten minutes."""
    return np.maximum(knative_kubeai.kubeai(_worth(bench, target), bench.most), bench.least)


def dynamo_throughput(predictor: str, bench: PolicyInputs, target: float) -> Ints:
    """Dynamo's throughput planner with one of its predictors, on the capacity at the target."""
    rps = bench.world.capacity * target
    course = dynamo.throughput(bench.world, bench.dynamo(predictor), rps, bench.most)
    return np.maximum(course, bench.least)


def dynamo_reactive(
    step: dynamo_load.Step,
    usage: Callable[[float], float],
    bench: PolicyInputs,
    target: float,
    floors: Ints | None = None,
) -> Ints:
    """Dynamo's load planner, by thresholds (its default) or by latencies."""
    worth = bench.newest / (bench.world.capacity * target)
    start = bench.world.start_steps
    course = dynamo_load.course(worth, bench.most, start, step, usage, floors)
    return np.maximum(course, bench.least)


def dynamo_hybrid(predictor: str, bench: PolicyInputs, target: float) -> Ints:
    """Dynamo's load planner by latencies over the floor of its throughput planner."""
    floors = dynamo_throughput(predictor, bench, target)
    return dynamo_reactive(dynamo_load.latency_step, dynamo_load.filled, bench, target, floors)


def ray(bench: PolicyInputs, target: float) -> Ints:
    """Ray Serve's default policy on ongoing requests."""
    worth = bench.newest / (bench.world.capacity * target)
    return np.maximum(ray_serve.course(worth, bench.most, bench.world.start_steps), bench.least)


def keda(bench: PolicyInputs, target: float) -> Ints:
    """HPA fed by a poll every 30 s, as KEDA's default has it."""
    step = np.arange(len(bench.reading))
    polled = bench.reading[step - step % 2] / (bench.world.capacity * target)
    return vectorized.plain_autoscaler(polled, bench.most, bench.least)


def static(bench: PolicyInputs, target: float) -> Ints:
    """One count all the time, enough for the highest demand of all steps at the target."""
    highest = bench.replicas(bench.world.demand[bench.world.played].max(keepdims=True), target)
    count = min(max(int(highest[0]), bench.least), bench.most)
    return np.full(len(bench.reading), count, dtype=np.int64)


def _worth(bench: PolicyInputs, target: float) -> Floats:
    return bench.reading / (bench.world.capacity * target)


def _alone(bench: PolicyInputs, target: float) -> tuple[Ints, Ints]:
    """What demand at hand needs, and what it is no reason to go below."""
    needed = bench.replicas(bench.reading, target)
    return needed, np.maximum(needed, vectorized.within_tolerance(_worth(bench, target)))


def _came(bench: PolicyInputs, target: float) -> Ints:
    """The most replicas that demand just filled within the span in which it may come again."""
    filled = np.minimum(bench.replicas(bench.reading, max(1.0, target)), bench.most)
    span = recent_peak_span(bench.policy(target), bench.lead_seconds)
    steps = math.ceil(span / STEP_SECONDS)
    return np.asarray(running_max(filled, steps) if steps else filled, dtype=np.int64)


def _foreseen(bench: PolicyInputs, target: float, peak: Floats) -> Ints:
    """The production rules on what is read and on a peak where one is given (0: none).

    The higher need counts; while the peak is believed and not below the reading it vouches.
    """
    needed, kept = _alone(bench, target)
    asked = bench.replicas(peak, bench.policy(target).peak_utilization)
    acting = vectorized.believed(asked, needed, OVERFORECAST_LEADS * bench.lead_seconds)
    vouched = acting & (peak >= bench.reading)
    asked = np.where(acting, asked, 0)
    first = max(int(needed[0]), int(asked[0]))
    plain = vectorized.plain_autoscaler(_worth(bench, target), bench.most, bench.least, first)
    return vectorized.foreseen(
        needed,
        kept,
        asked,
        vouched,
        _came(bench, target),
        plain,
        target,
        bench.most,
        _DOWN.stabilization_window_seconds,
        bench.least,
    )


POLICIES: dict[str, Policy] = {
    "ours": ours,
    "ours-no-forecast": ours_no_forecast,
    "hpa": hpa,
    "last-value": last_value,
    "seasonal-naive": seasonal_naive,
    "threshold-0.6": threshold,
    "oracle": oracle,
    "hpa-without-behavior": hpa_without_behavior,
    "crane": crane_dsp,
    "phpa-linear": phpa_linear,
    "phpa-holt-winters": partial(phpa_holt_winters, phpa_seasons.in_order),
    "phpa-holt-winters-as-written": partial(phpa_holt_winters, phpa_seasons.as_written),
    "wva-v1": wva_v1,
    "wva-v2": wva_v2,
    "keda-queue": keda_queue,
    "aibrix-apa-as-written": partial(aibrix_apa, as_written=True),
    "aibrix-kpa-as-written": partial(aibrix_kpa, as_written=True),
    "knative": knative,
    "keda": keda,
    "aibrix-apa": aibrix_apa,
    "aibrix-kpa": aibrix_kpa,
    "kubeai": kubeai,
    "ray-serve": ray,
    "dynamo-load": partial(dynamo_reactive, dynamo_load.threshold_step, dynamo_load.filled),
    "dynamo-load-in-proportion": partial(
        dynamo_reactive, dynamo_load.threshold_step, dynamo_load.in_proportion
    ),
    "dynamo-latency": partial(dynamo_reactive, dynamo_load.latency_step, dynamo_load.filled),
    "dynamo-latency-in-proportion": partial(
        dynamo_reactive, dynamo_load.latency_step, dynamo_load.in_proportion
    ),
    "dynamo-hybrid-constant": partial(dynamo_hybrid, "constant"),
    "dynamo-hybrid-kalman": partial(dynamo_hybrid, "kalman"),
    "dynamo-hybrid-arima": partial(dynamo_hybrid, "arima"),
    "dynamo-hybrid-prophet": partial(dynamo_hybrid, "prophet"),
    "dynamo-constant": partial(dynamo_throughput, "constant"),
    "dynamo-kalman": partial(dynamo_throughput, "kalman"),
    "dynamo-arima": partial(dynamo_throughput, "arima"),
    "dynamo-prophet": partial(dynamo_throughput, "prophet"),
    "static": static,
}

__all__ = ["POLICIES", "Policy", "PolicyInputs", "misled"]

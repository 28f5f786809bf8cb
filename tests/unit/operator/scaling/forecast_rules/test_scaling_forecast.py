"""Effect of a forecast on decisions, and its limits."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import Activation, MetricType, PolicyType
from r1_operator.plan.scaling.policy import (
    DownBehavior,
    ForecastPolicy,
    MetricTarget,
    RateLimit,
    UpBehavior,
)
from r1_operator.plan.scaling.reasons import DecisionMode, DecisionReason
from r1_operator.plan.signals.forecast import ReceivedForecast, at_level, parse_forecast

AT_ONCE = UpBehavior(limits=())
Build = Callable[..., Any]


@pytest.mark.parametrize(
    ("activation", "acts", "replicas", "mode"),
    [
        (Activation.NEVER, True, 1, DecisionMode.REACTIVE),
        (Activation.ADVISORY, True, 1, DecisionMode.REACTIVE),
        (Activation.REQUIRE_BACKTEST, False, 1, DecisionMode.REACTIVE),
        (Activation.REQUIRE_BACKTEST, True, 5, DecisionMode.PREDICTIVE),
        (Activation.ALWAYS, False, 5, DecisionMode.PREDICTIVE),
    ],
)
def test_activation(
    stage: Build,
    forecast: Build,
    activation: Activation,
    acts: bool,
    replicas: int,
    mode: DecisionMode,
) -> None:
    story = stage(forecast=ForecastPolicy(activation))
    decision = story.once(7.0, forecast(35.0, acts=acts))
    assert (decision.replicas, decision.mode) == (replicas, mode)


def test_advice_is_shown_where_it_does_not_act(stage: Build, forecast: Build) -> None:
    decision = stage(forecast=ForecastPolicy(Activation.ADVISORY)).once(7.0, forecast(35.0))
    assert decision.forecast is not None
    assert (decision.forecast.acting, decision.forecast.replicas) == (False, 5)
    assert decision.forecast.message.startswith(
        "Advisory only: forecast for the next 45 s: up to 35 requests/s need 5"
    )


def test_a_closed_gate_is_explained(stage: Build, forecast: Build) -> None:
    decision = stage().once(7.0, forecast(35.0, acts=False))
    assert decision.forecast is not None
    assert decision.forecast.message == "Not acting (LosesToLastValue): By the backtest."
    assert decision.forecast.unavailable is None


def test_a_forecast_scales_up_before_the_load_and_names_its_quantile(
    stage: Build, forecast: Build
) -> None:
    decision = stage().once(7.0, forecast(35.0))
    assert decision.reason is DecisionReason.FORECAST_DEMAND
    assert decision.message == (
        "5 replicas: forecast for the next 45 s: up to 35 requests/s need 5 at 85% of 10 per replica "
        "(91% quantile: a missing replica costs 10 times an idle one); "
        "current demand: 7 requests/s need 1 at 70% of 10 per replica."
    )


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.5])
def test_a_forecast_that_is_too_low_changes_nothing(
    stage: Build, forecast: Build, wrong: float
) -> None:
    decision = stage(up=AT_ONCE).once(70.0, forecast(70.0 * wrong))
    assert (decision.replicas, decision.reason) == (10, DecisionReason.REAL_TIME_DEMAND)


def test_a_forecast_raises_and_never_lowers_while_demand_is_unknown(
    stage: Build, forecast: Build
) -> None:
    gone = Unavailable("StaleSignals", "Gone.")
    story = stage(replicas=4, up=AT_ONCE)
    assert story.play(600, gone, forecast=forecast(7.0)).replicas == 4
    assert story.once(gone, forecast(51.0)).replicas == 6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"valid_until": 0.0}, "Expired"),
        ({"peak_over_lead": {0.9: float("nan")}}, "Invalid"),
        ({"peak_over_lead": {0.9: -1.0}}, "Invalid"),
        ({"peak_over_lead": {0.9: float("inf")}}, "Invalid"),
        ({"peak_over_lead": {}}, "Invalid"),
        ({"issued_at": 1e12}, "Invalid"),
        ({"metric": MetricType.TOKENS_PER_SECOND}, "NoSuchMetric"),
    ],
)
def test_an_invalid_forecast_is_ignored_and_reported(
    stage: Build, forecast: Build, change: dict[str, Any], reason: str
) -> None:
    broken = replace(forecast(700.0, points={60.0: 700.0}), **change)
    decision = stage().once(7.0, broken)
    assert (decision.replicas, decision.mode) == (1, DecisionMode.REACTIVE)
    assert decision.forecast is not None
    assert decision.forecast.unavailable is not None
    assert decision.forecast.unavailable.reason == reason


@pytest.mark.parametrize(("late", "used"), [(0.0, True), (11.0, True), (12.0, False)])
def test_an_answer_that_is_late_is_bridged_for_a_quarter_of_the_lead(
    stage: Build, forecast: Build, late: float, used: bool
) -> None:
    story = stage()
    ends = replace(forecast(35.0), valid_until=story.now - late)
    assert (story.once(7.0, ends).mode is DecisionMode.PREDICTIVE) is used


def test_without_a_forecaster_real_time_goes_on(stage: Build) -> None:
    decision = stage().once(14.0, Unavailable("Training", "The model is being trained."))
    assert (decision.replicas, decision.reason) == (2, DecisionReason.REAL_TIME_DEMAND)
    assert decision.forecast is not None
    assert decision.forecast.unavailable == Unavailable("Training", "The model is being trained.")


def test_a_likely_peak_may_fill_half_of_the_headroom(stage: Build, forecast: Build) -> None:
    # At 70 % of ten each, 8.5 fit one replica as a forecast peak; current demand needs more.
    assert stage().once(7.0, forecast(8.5)).replicas == 1
    assert stage().once(7.0, forecast(8.6)).replicas == 2
    assert stage().once(8.5, forecast(8.5)).replicas == 2


class TestConfirmedScaleDown:
    """A forecast of at least the current demand skips the scale-down window."""

    def down_after(self, stage: Build, tells: Any, foretold: Any, **changes: Any) -> int | None:
        """Seconds until the count falls from a forecast's twelve to the needed ten."""
        story = stage(replicas=1, up=AT_ONCE, **changes)
        story.play(61, 70.0, forecast=foretold)
        assert story.replicas == 12
        for second in range(400):
            if story.once(70.0, tells).replicas < 12:
                return second
        return None

    def test_replicas_without_predicted_demand_stop_at_once(
        self, stage: Build, forecast: Build
    ) -> None:
        assert self.down_after(stage, forecast(70.0), forecast(100.0)) == 0

    def test_a_confirmed_scale_down_waits_a_minute_after_a_scale_up(
        self, stage: Build, forecast: Build
    ) -> None:
        story = stage(replicas=1, up=AT_ONCE)
        assert story.once(70.0, forecast(100.0)).replicas == 12
        story.play(40, 70.0, forecast=forecast(100.0))
        decision = story.once(70.0, forecast(70.0))
        assert (decision.replicas, decision.reason) == (12, DecisionReason.STABILIZED)
        assert decision.message == (
            "Keeping 12 replicas: the count rose 41 s ago, and demand rates are averages over 60 s "
            "(current demand needs 10)."
        )
        assert story.play(18, 70.0, forecast=forecast(70.0)).replicas == 12
        assert story.once(70.0, forecast(70.0)).replicas == 10

    def test_a_predicted_peak_prevents_a_scale_down(self, stage: Build, forecast: Build) -> None:
        assert self.down_after(stage, forecast(100.0), forecast(100.0)) is None

    @pytest.mark.parametrize("wrong", [0.0, 7.0, 69.9])
    def test_a_peak_below_current_demand_confirms_no_scale_down(
        self, stage: Build, forecast: Build, wrong: float
    ) -> None:
        assert self.down_after(stage, forecast(wrong), forecast(100.0)) == 299

    def test_a_forecast_that_may_not_act_does_not_confirm_a_scale_down(
        self, stage: Build, forecast: Build
    ) -> None:
        high = forecast(100.0)
        assert self.down_after(stage, forecast(70.0, acts=False), high) == 299
        assert self.down_after(stage, Unavailable("Training", "Wait."), high) == 299

    def test_a_short_scale_down_window_applies_with_a_forecast(
        self, stage: Build, forecast: Build
    ) -> None:
        brief = DownBehavior(stabilization_window_seconds=10)
        assert self.down_after(stage, forecast(0.0), forecast(100.0), down=brief) == 9

    def test_a_confirmed_scale_down_stops_at_the_count_of_an_hpa(
        self, stage: Build, forecast: Build
    ) -> None:
        story = stage(replicas=1, up=AT_ONCE)
        story.play(61, 70.0, forecast=forecast(100.0))
        decision = story.once(14.0, forecast(14.0))
        assert (decision.replicas, decision.reason) == (10, DecisionReason.STABILIZED)
        assert decision.message == (
            "Keeping 10 replicas: a HorizontalPodAutoscaler at the same target would still run 10 "
            "(current demand needs 2)."
        )
        assert story.play(280, 14.0, forecast=forecast(14.0)).replicas == 10
        assert story.play(30, 14.0, forecast=forecast(14.0)).replicas == 2

    def test_a_forecast_without_real_time_demand_allows_no_scale_down(
        self, stage: Build, forecast: Build
    ) -> None:
        gone = Unavailable("StaleSignals", "Gone.")
        story = stage(replicas=10)
        assert story.play(400, gone, forecast=forecast(14.0)).replicas == 10


class TestRecentPeakFloor:
    """The peak of three lead times keeps the replicas that it filled."""

    def after_a_burst(self, stage: Build, prediction: Any, seconds: int, **changes: Any) -> Any:
        """A minute of demand that needs ten replicas and fills seven, then `seconds` of low demand."""
        prediction = replace(prediction, lead_seconds=200.0)
        story = stage(replicas=1, up=AT_ONCE, **changes)
        story.play(60, 70.0, forecast=prediction)
        assert story.replicas == 10
        story.play(seconds, 14.0, forecast=prediction)
        return story

    def test_a_recent_peak_keeps_the_replicas_that_it_filled(
        self, stage: Build, forecast: Build
    ) -> None:
        story = self.after_a_burst(stage, forecast(14.0), 330)
        assert (story.replicas, story.decisions[-1].reason) == (7, DecisionReason.RECENT_PEAK)
        assert story.decisions[-1].message == (
            "Keeping 7 replicas: demand reached 70 requests/s in the last 10 min, which fills 7 "
            "replicas, and a replica takes 200 s to start (current demand needs 2)."
        )

    def test_a_recent_peak_counts_for_three_lead_times(self, stage: Build, forecast: Build) -> None:
        assert self.after_a_burst(stage, forecast(14.0), 599).replicas == 7
        assert self.after_a_burst(stage, forecast(14.0), 600).replicas == 2

    def test_a_recent_peak_starts_no_replica(self, stage: Build, forecast: Build) -> None:
        story = self.after_a_burst(stage, forecast(14.0), 330)
        story.replicas = 3
        slow = replace(forecast(14.0), lead_seconds=200.0)
        assert story.once(14.0, slow).replicas == 3

    def test_a_recent_peak_does_not_outlast_a_short_window(
        self, stage: Build, forecast: Build
    ) -> None:
        brief = DownBehavior(stabilization_window_seconds=10)
        assert self.after_a_burst(stage, forecast(14.0), 60, down=brief).replicas == 2

    def test_a_recent_peak_does_not_delay_scaling_to_zero(
        self, stage: Build, forecast: Build
    ) -> None:
        slow = replace(forecast(0.0), lead_seconds=500.0)
        story = stage(replicas=1, min_replicas=0, up=AT_ONCE)
        story.play(60, 70.0, forecast=slow)
        story.play(310, 0.0, forecast=slow)
        assert story.replicas == 0


class TestOverforecast:
    """A forecast of more than twice the need acts for twice the lead time."""

    def test_an_overforecast_is_ignored_and_reported(self, stage: Build, forecast: Build) -> None:
        story = stage(replicas=1, up=AT_ONCE)
        prediction = forecast(70.0)
        assert story.play(91, 14.0, forecast=prediction).replicas == 9
        decision = story.once(14.0, prediction)
        assert decision.mode is DecisionMode.REACTIVE
        assert decision.forecast is not None
        assert decision.forecast.message.startswith("Ignored: for more than 90 s the forecast")
        assert story.play(300, 14.0, forecast=prediction).replicas == 2

    def test_a_forecast_acts_again_after_an_overforecast_ends(
        self, stage: Build, forecast: Build
    ) -> None:
        story = stage(replicas=1, up=AT_ONCE)
        story.play(60, 14.0, forecast=forecast(70.0))
        story.play(10, 60.0, forecast=forecast(70.0))
        assert story.play(80, 14.0, forecast=forecast(70.0)).mode is DecisionMode.PREDICTIVE

    def test_a_forecast_of_up_to_twice_the_need_is_used(
        self, stage: Build, forecast: Build
    ) -> None:
        story = stage(replicas=1, up=AT_ONCE)
        assert story.play(600, 14.0, forecast=forecast(34.0)).replicas == 4

    def test_an_overforecast_for_later_is_tolerated_for_the_horizon_more(
        self, stage: Build, forecast: Build
    ) -> None:
        story = stage(replicas=2, up=UpBehavior(limits=(RateLimit(PolicyType.PODS, 1, 60),)))
        for _ in range(691):
            prediction = forecast(14.0, points={60.0: 85.0}, now=story.now)
            assert story.once(14.0, prediction).mode is DecisionMode.PREDICTIVE
        assert story.once(14.0, prediction).mode is DecisionMode.REACTIVE

    def test_the_clock_starts_anew_where_demand_is_unknown(
        self, stage: Build, forecast: Build
    ) -> None:
        gone = Unavailable("StaleSignals", "Gone.")
        story = stage(replicas=1, up=AT_ONCE)
        prediction = forecast(70.0)
        assert story.play(600, gone, forecast=prediction).replicas == 9
        assert story.play(60, 14.0, forecast=prediction).mode is DecisionMode.PREDICTIVE


class TestMidTerm:
    """A later peak needs replicas now only if the rate limits take that long."""

    SLOW = UpBehavior(limits=(RateLimit(PolicyType.PODS, 1, 60),))

    def test_a_peak_that_can_be_met_later_asks_for_nothing_now(
        self, stage: Build, forecast: Build
    ) -> None:
        assert stage().once(7.0, forecast(7.0, points={300.0: 85.0})).replicas == 1

    def test_slow_limits_begin_early(self, stage: Build, forecast: Build) -> None:
        # 10 are needed at 300 s and must be requested by 255 s: one a minute leaves 4 steps.
        decision = stage(replicas=6, up=self.SLOW).once(42.0, forecast(42.0, points={300.0: 85.0}))
        assert decision.replicas == 6
        decision = stage(replicas=5, up=self.SLOW).once(35.0, forecast(35.0, points={300.0: 85.0}))
        assert (decision.replicas, decision.reason) == (6, DecisionReason.FORECAST_DEMAND)
        assert "in time only from 6 now" in decision.message

    def test_points_beyond_the_horizon_have_no_effect(self, stage: Build, forecast: Build) -> None:
        story = stage(replicas=5, up=self.SLOW, forecast=ForecastPolicy(horizon_seconds=200))
        assert story.once(35.0, forecast(35.0, points={300.0: 85.0})).replicas == 5

    def test_walked_step_by_step_the_rise_arrives_in_time(
        self, stage: Build, forecast: Build
    ) -> None:
        story = stage(replicas=2, up=self.SLOW)
        peak_at = story.now + 600.0
        while story.now < peak_at - 45.0:
            story.once(14.0, forecast(14.0, points={peak_at - story.now: 85.0}, now=story.now))
        assert story.replicas == 10


class TestScaleToZeroAndForecast:
    def test_less_than_one_expected_request_lets_it_sleep(
        self, stage: Build, forecast: Build
    ) -> None:
        story = stage(replicas=1, min_replicas=0)
        assert story.play(301, 0.0, forecast=forecast(0.02)).replicas == 0

    def test_a_predicted_load_scales_from_zero_before_the_first_request(
        self, stage: Build, forecast: Build
    ) -> None:
        decision = stage(replicas=0, min_replicas=0).once(0.0, forecast(5.0))
        assert (decision.replicas, decision.reason) == (1, DecisionReason.FORECAST_DEMAND)


class TestParsing:
    ANSWER: ClassVar[dict[str, Any]] = {
        "series": "default/r1",
        "state": "Ready",
        "reason": "BeatsBaselines",
        "message": "",
        "issuedAt": 100.0,
        "validUntil": 160.0,
        "model": "lstm",
        "gate": {"open": True, "reason": "BeatsBaselines", "message": ".", "scores": {}},
        "points": [{"at": 160.0, "quantiles": {"0.5": 10.0, "0.9": 14}}],
        "peakOverLead": {"0.5": 11.0, "0.9": 15.0, "0.95": 16.0},
        "coverage": {"0.9": {"live": None, "samples": 0, "backtest": 0.91}},
        "lastObserved": {"at": 90.0, "value": 9.0},
    }

    def test_the_contract_parses(self) -> None:
        parsed = parse_forecast(self.ANSWER, lead_seconds=45.0)
        assert isinstance(parsed, ReceivedForecast)
        assert parsed.points[0].quantiles == {0.5: 10.0, 0.9: 14.0}
        assert parsed.fault(now=120.0) is None

    def test_unavailable_keeps_its_words(self) -> None:
        answer = {"state": "Unavailable", "reason": "Training", "message": "Wait."}
        answer["series"] = "default/r1"
        assert parse_forecast(answer, 45.0) == Unavailable("Training", "Wait.")

    @pytest.mark.parametrize("key", ["issuedAt", "gate", "points", "peakOverLead", "model"])
    @pytest.mark.parametrize("value", [None, "text", [1], {"x": "y"}, 7])
    def test_anything_else_is_unavailable_and_raises_nothing(self, key: str, value: Any) -> None:
        parsed = parse_forecast({**self.ANSWER, key: value}, 45.0)
        assert isinstance(parsed, ReceivedForecast | Unavailable)


@pytest.mark.parametrize(
    ("level", "value"), [(0.5, 10.0), (0.7, 12.0), (0.9, 14.0), (0.99, 14.0), (0.1, 10.0)]
)
def test_levels_between_the_published_ones(level: float, value: float) -> None:
    assert at_level({0.5: 10.0, 0.9: 14.0}, level) == pytest.approx(value)


def test_a_forecast_of_tokens_counts_against_the_token_metric(
    stage: Build, forecast: Build
) -> None:
    metrics = (MetricTarget(MetricType.TOKENS_PER_SECOND, 100.0),)
    story = stage(metrics=metrics)
    prediction = forecast(210.0, metric=MetricType.TOKENS_PER_SECOND)
    assert story.once(0.0, prediction).replicas == 3

"""Order and budget of training, with a test clock and given costs of fits."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_forecasting.training.training_queue import STAGGER, TrainingOrder, TrainingQueue

DAY = 86_400.0


def order(
    name: str,
    *,
    due: float = 0.0,
    potential_saving: float = 0.1,
    again: bool = False,
    wanted: bool = True,
) -> TrainingOrder:
    return TrainingOrder(
        name,
        series=lambda: None,
        done=lambda _: None,
        requested=lambda: wanted,
        potential_saving=lambda: potential_saving,
        due=due,
        fitted_before=again,
    )


def queue(*orders: TrainingOrder, share: float = 0.25) -> TrainingQueue:
    made = TrainingQueue(share)
    for one in orders:
        made.put(one)
    return made


def chosen(made: TrainingQueue, now: float) -> str | None:
    order = made.next(now)
    return None if order is None else order.series_name


def test_order_with_the_highest_potential_saving_is_first() -> None:
    assert (
        chosen(
            queue(order("calm", potential_saving=0.02), order("wild", potential_saving=0.3)), 0.0
        )
        == "wild"
    )


def test_long_wait_outweighs_a_higher_potential_saving() -> None:
    made = queue(
        order("calm", potential_saving=0.02), order("wild", potential_saving=0.3, due=7200.0)
    )
    assert chosen(made, 7200.0) == "calm"


def test_constant_demand_is_not_trained_and_is_checked_again() -> None:
    gains = [0.0]
    constant = order("constant")
    constant.potential_saving = lambda: gains[0]
    made = queue(constant)
    assert chosen(made, 100.0) is None
    gains[0] = 0.2
    assert chosen(made, 200.0) == "constant"


def test_first_fit_precedes_a_refit_with_more_saving_and_needs_no_budget() -> None:
    made = queue(
        order("old", potential_saving=0.5, again=True), order("new", potential_saving=0.02)
    )
    made.refits_paused_until = 1000.0
    assert chosen(made, 10.0) == "new"
    made.drop("new")
    assert chosen(made, 10.0) is None
    assert chosen(made, 1000.0) == "old"


def test_series_without_requests_are_not_refitted() -> None:
    assert chosen(queue(order("idle", again=True, wanted=False)), 10.0) is None


def test_replaced_order_is_no_longer_contained() -> None:
    first, second = order("a"), order("a")
    made = queue(first, second)
    assert not made.contains(first)
    assert made.contains(second)
    assert made.due_count(0.0) == 1


def played(
    count: int, cost: float, share: float, days: float, season: float = DAY
) -> tuple[list[float], list[float], dict[str, list[float]]]:
    """All series at once; starts and CPU time of refits, and the time of the fit by series."""
    rng = np.random.default_rng(0)
    made = queue(
        *(
            order(f"team/model-{n}", potential_saving=float(rng.uniform(0.0, 0.3)))
            for n in range(count)
        ),
        share=share,
    )
    now, begins, spent = 0.0, [], []
    fits: dict[str, list[float]] = {}
    while now < days * DAY:
        one = made.next(now)
        if one is None:
            now += made.seconds_until_next(now)
            continue
        took = cost * float(rng.uniform(0.8, 1.2))
        if one.fitted_before:
            begins.append(now)
            spent.append(took)
        fits.setdefault(one.series_name, []).append(now)
        made.record_fit(one, began=now, spent=took, season=season)
        now += took
    return begins, spent, fits


def test_thousand_series_are_fitted_once_and_refits_stay_within_the_share() -> None:
    begins, spent, fits = played(1000, cost=20.0, share=0.25, days=3)
    assert len(fits) == 1000
    first = max(times[0] for times in fits.values())
    assert first < 1000 * 20 * 1.1, "first fits are not held back"
    assert sum(spent) / (begins[-1] + spent[-1] / 0.25 - begins[0]) <= 0.2501


def test_refits_come_evenly_and_not_on_the_hour() -> None:
    begins, _, _ = played(200, cost=20.0, share=0.25, days=4)
    by_hour = np.bincount((np.array(begins) // 3600).astype(np.int64))
    busy = by_hour[by_hour > 0]
    assert busy.max() <= 3600 * 0.25 / (20 * 0.8) + 1, "what the share pays for in an hour"
    minutes = np.bincount((np.array(begins) % 3600 // 60).astype(np.int64), minlength=60)
    assert minutes.max() < 0.1 * minutes.sum()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.001, 1.0), min_size=2, max_size=8),
    st.floats(0.05, 1.0),
    st.floats(1.0, 100.0),
)
def test_every_series_with_a_potential_saving_is_trained_eventually(
    worths: list[float], share: float, cost: float
) -> None:
    made = queue(
        *(
            order(str(n), potential_saving=potential_saving)
            for n, potential_saving in enumerate(worths)
        ),
        share=share,
    )
    now, count = 0.0, dict.fromkeys(map(str, range(len(worths))), 0)
    period = max(100.0, cost / share) * (1 + STAGGER)
    until = 4 * len(worths) * (cost / share + period + 5.0) / min(max(min(worths), 0.01), 1.0)
    turns = 0
    while now < until and min(count.values()) < 2 and turns < 200_000:
        turns += 1
        one = made.next(now)
        if one is None:
            now += made.seconds_until_next(now)
            continue
        count[one.series_name] += 1
        made.record_fit(one, began=now, spent=cost, season=100.0)
        now += cost
    assert min(count.values()) >= 2

"""Ownership for any names of shards and series, and forwarding for any lists of shards."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from forecaster_shards import NAMES, release
from r1_common.contracts.forecast_request import parse_forecast_request
from r1_forecasting.sharding.ownership import owner_of

names = st.lists(
    st.from_regex(r"[a-z][-a-z0-9]{0,20}[a-z0-9]", fullmatch=True),
    min_size=1,
    max_size=8,
    unique=True,
)
series_names = st.text(min_size=1, max_size=60)


@given(names, series_names, st.randoms(use_true_random=False))
def test_every_series_has_one_owner_in_any_order_of_names(
    shards: list[str], series_name: str, shuffle: random.Random
) -> None:
    owner = owner_of(series_name, shards)
    assert owner in shards
    shuffle.shuffle(shards)
    assert owner_of(series_name, shards) == owner


@given(names, series_names)
def test_a_new_shard_takes_and_gives_nothing_to_others(shards: list[str], series_name: str) -> None:
    *before, new = [*shards, "the-new-one"]
    moved_to = owner_of(series_name, [*before, new])
    assert moved_to in (owner_of(series_name, before), new)


@given(names, series_names)
def test_removed_shard_moves_no_series_of_the_others(shards: list[str], series_name: str) -> None:
    owner = owner_of(series_name, shards)
    for gone in shards:
        rest = [name for name in shards if name != gone]
        if rest and gone != owner:
            assert owner_of(series_name, rest) == owner


@given(st.integers(1, 8), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_new_shard_owns_its_share(count: int, seed: int) -> None:
    """Of 2,000 series 2,000/(N+1), within five standard deviations of a binomial."""
    shards = [f"r1-forecaster-{number}" for number in range(count)]
    names_of_series = [f"team-{seed}/model-{number}" for number in range(2000)]
    new = f"r1-forecaster-{count}"
    moved = [
        one for one in names_of_series if owner_of(one, [*shards, new]) != owner_of(one, shards)
    ]
    share = 1 / (count + 1)
    spread = (2000 * share * (1 - share)) ** 0.5
    assert abs(len(moved) - 2000 * share) < 5 * spread
    assert {owner_of(one, [*shards, new]) for one in moved} == {new}


lists = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)


@given(st.fixed_dictionaries(dict.fromkeys(NAMES, lists)), st.sampled_from(NAMES), series_names)
@settings(max_examples=40, deadline=None)
def test_request_takes_one_hop_and_creates_one_forecaster_at_most_for_any_lists(
    known: dict[str, list[str]], door: str, series_name: str
) -> None:
    asyncio.run(ask_through(known, door, series_name))


async def ask_through(known: dict[str, list[str]], door: str, series_name: str) -> None:
    body = {"query": "demand", "stepSeconds": 1, "seasonSeconds": 60}
    body |= {"historySeconds": 480, "leadSeconds": 50, "series": f"x{series_name}"}
    async with release() as made:
        for name, heard in known.items():
            made[name].knows[:] = heard
        owner = made.seen_from(door).owner(f"x{series_name}")
        agreed = owner == door or made.seen_from(owner).owner(f"x{series_name}") == owner
        response = await asyncio.wait_for(
            made[door].routed.operator_forecast(parse_forecast_request(body), 1), 60
        )
        hops = {name: len(shard.hops) for name, shard in made.shards.items()}
        assert hops == {name: int(name == owner != door) for name in NAMES}
        owners = [name for name, shard in made.shards.items() if shard.home.requests]
        assert owners == ([owner] if agreed else [])
        assert response.reason == ("NoData" if agreed else "Unreachable")

"""List of shards: ownership, and errors that name the fix."""

from __future__ import annotations

import pytest

from r1_forecasting.sharding.ownership import InvalidShards, Shards, parse_shards

TWO = '{"r1-forecaster-0": "http://127.0.0.1:1", "r1-forecaster-1": "http://127.0.0.1:2"}'


def test_shard_owns_the_series_with_its_highest_score() -> None:
    addresses = parse_shards(TWO)
    first, second = (Shards(name, addresses) for name in addresses)
    for number in range(50):
        series_name = f"team/model-{number}"
        assert first.owns(series_name) != second.owns(series_name)
        assert first.owner(series_name) == second.owner(series_name)


def test_removed_shard_owns_nothing() -> None:
    leaving = Shards("r1-forecaster-2", parse_shards(TWO))
    assert not any(leaving.owns(f"team/model-{number}") for number in range(50))


def test_owners_stay_the_same_over_releases() -> None:
    """A change of the hash would move every series at an upgrade."""
    shards = Shards("r1-forecaster-0", parse_shards(TWO))
    owners = [shards.owner(f"team/model-{number}")[-1] for number in range(12)]
    assert "".join(owners) == "000000011010"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not JSON"),
        ("[]", "needs to be a JSON object"),
        ("{}", "at least one shard"),
        ('{"Pod 0": "http://a:1"}', "'Pod 0' needs to be a pod's name"),
        ('{"r1-forecaster-0": "a:1"}', "r1-forecaster-0: 'a:1' needs to be of the form http://"),
        ('{"r1-forecaster-0": "http://a:1/v1"}', "needs to be of the form http://HOST:PORT"),
        ('{"r1-forecaster-0": 8082}', "r1-forecaster-0: 8082 needs to be"),
    ],
)
def test_invalid_list_names_the_entry_and_the_fix(text: str, expected: str) -> None:
    with pytest.raises(InvalidShards, match=r".") as refused:
        parse_shards(text)
    assert expected in str(refused.value)

"""Limits of tenants on a clock that the test moves."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from r1_gateway.tenants.caller import Caller
from r1_gateway.tenants.limits import TenantLimits
from r1_gateway.tenants.shared_usage import SharedUsage
from r1_gateway.tenants.tenant_limiter import LimitReached, TenantLimiter, open_window
from r1_gateway.tenants.usage import OTHER, RANK_EVERY, UsageByTenant

# 2026-11-30, 23:59:00 UTC
LATE = 1796083140.0


@dataclass
class Wall:
    at: float = LATE

    def __call__(self) -> float:
        return self.at


def caller(**limits: int) -> Caller:
    return Caller("a", limits=TenantLimits(**limits))


def test_a_tenant_without_limits_is_never_charged() -> None:
    limiter = TenantLimiter()
    assert limiter.charge(Caller("a"), 1e9, 0.0) is None
    assert limiter.accounts == {}


def test_requests_per_minute_allow_a_burst_and_then_refill_evenly() -> None:
    limiter, mine = TenantLimiter(), caller(requests_per_minute=60)
    for _ in range(60):
        assert limiter.charge(mine, 1.0, 0.0) is not None
    with pytest.raises(LimitReached) as refused:
        limiter.charge(mine, 1.0, 0.0)
    assert refused.value.limit == "requestsPerMinute"
    assert refused.value.kind == "requests"
    assert refused.value.retry_after_seconds == 1
    assert "'a' reached its limit requestsPerMinute of 60 requests" in refused.value.message
    assert limiter.charge(mine, 1.0, 1.0) is not None
    with pytest.raises(LimitReached):
        limiter.charge(mine, 1.0, 1.0)


def test_refused_clients_that_wait_as_told_are_admitted() -> None:
    limiter, mine = TenantLimiter(), caller(requests_per_minute=120)
    returns = []
    for _ in range(120):
        limiter.charge(mine, 1.0, 0.0)
    for _ in range(30):
        with pytest.raises(LimitReached) as refused:
            limiter.charge(mine, 1.0, 0.0)
        returns.append(refused.value.retry_after_seconds)
    assert max(returns) == 15  # two a second
    for at in sorted(returns):
        assert limiter.charge(mine, 1.0, float(at)) is not None


def test_tokens_are_charged_as_estimated_and_corrected_at_the_end() -> None:
    limiter, mine = TenantLimiter(), caller(tokens_per_minute=1000)
    charge = limiter.charge(mine, 900.0, 0.0)
    assert charge is not None
    with pytest.raises(LimitReached) as refused:
        limiter.charge(mine, 200.0, 0.0)
    assert refused.value.limit == "tokensPerMinute"
    assert refused.value.retry_after_seconds == 6
    limiter.settle(charge, 100.0, 0.0)
    assert limiter.charge(mine, 800.0, 0.0) is not None


def test_a_request_above_a_whole_minute_is_served_when_the_bucket_is_full() -> None:
    limiter, mine = TenantLimiter(), caller(tokens_per_minute=600)
    assert limiter.charge(mine, 6000.0, 0.0) is not None
    with pytest.raises(LimitReached) as refused:
        limiter.charge(mine, 1.0, 0.0)
    assert refused.value.retry_after_seconds == 541  # the debt of 5400 first


def test_headers_have_the_names_and_forms_of_openai() -> None:
    limiter = TenantLimiter()
    charge = limiter.charge(caller(requests_per_minute=60, tokens_per_minute=6000), 3000.0, 0.0)
    assert charge is not None
    assert charge.headers.decode().splitlines() == [
        "x-ratelimit-limit-requests: 60",
        "x-ratelimit-remaining-requests: 59",
        "x-ratelimit-reset-requests: 1s",
        "x-ratelimit-limit-tokens: 6000",
        "x-ratelimit-remaining-tokens: 3000",
        "x-ratelimit-reset-tokens: 30s",
    ]


def test_a_day_and_a_month_end_with_the_calendar_of_utc() -> None:
    wall = Wall()
    limiter = TenantLimiter(wall)
    for limits, name in (
        ({"tokens_per_day": 100}, "tokensPerDay"),
        ({"tokens_per_month": 100}, "tokensPerMonth"),
    ):
        wall.at = LATE
        mine = Caller(name, limits=TenantLimits(**limits))
        assert limiter.charge(mine, 90.0, 0.0) is not None
        with pytest.raises(LimitReached) as refused:
            limiter.charge(mine, 20.0, 0.0)
        assert refused.value.limit == name
        assert refused.value.retry_after_seconds == 60  # the last minute of November
        wall.at += 60.0
        assert limiter.charge(mine, 20.0, 0.0) is not None


@pytest.mark.parametrize(
    ("kind", "at", "name", "ends"),
    [
        ("day", LATE, "day:2026-11-30", LATE + 60),
        ("month", LATE, "month:2026-11", LATE + 60),
        ("month", LATE + 60, "month:2026-12", LATE + 60 + 31 * 86400),
        ("month", LATE + 60 + 31 * 86400, "month:2027-01", LATE + 60 + 62 * 86400),
    ],
)
def test_windows_have_the_names_and_ends_of_the_calendar(
    kind: str, at: float, name: str, ends: float
) -> None:
    window = open_window(kind, at)
    assert (window.name, window.ends) == (name, ends)


def test_a_changed_limit_applies_to_what_was_charged_before() -> None:
    limiter = TenantLimiter()
    limiter.charge(caller(requests_per_minute=2), 1.0, 0.0)
    limiter.charge(caller(requests_per_minute=2), 1.0, 0.0)
    assert limiter.charge(caller(requests_per_minute=3), 1.0, 0.0) is not None
    with pytest.raises(LimitReached):
        limiter.charge(caller(requests_per_minute=3), 1.0, 0.0)


def test_several_gateways_without_a_store_each_apply_their_part() -> None:
    limiter, mine = TenantLimiter(), caller(requests_per_minute=10)
    limiter.gateways = 2
    for _ in range(5):
        assert limiter.charge(mine, 1.0, 0.0) is not None
    with pytest.raises(LimitReached):
        limiter.charge(mine, 1.0, 0.0)


@dataclass
class MemoryStore:
    """A shared store that can stop responding."""

    hashes: dict[str, dict[str, float]] = field(default_factory=dict)
    dead: bool = False
    written_before_failure: bool = False

    async def exchange(
        self, process: str, totals: Mapping[str, tuple[float, float]]
    ) -> dict[str, float]:
        others: dict[str, float] = {}
        for key, (total, _) in totals.items():
            if not self.dead or self.written_before_failure:
                self.hashes.setdefault(key, {})[process] = total
            fields = self.hashes.get(key, {})
            others[key] = sum(value for name, value in fields.items() if name != process)
        if self.dead:
            raise OSError("no response")
        return others

    async def close(self) -> None: ...


def gateways(count: int, store: MemoryStore) -> list[tuple[TenantLimiter, SharedUsage]]:
    found = []
    for _ in range(count):
        limiter = TenantLimiter(Wall())
        shared = SharedUsage(limiter, store, clock=lambda: 0.0, wall_clock=lambda: LATE)
        found.append((limiter, shared))
    return found


async def admitted(pair: list[tuple[TenantLimiter, SharedUsage]], mine: Caller, tries: int) -> int:
    count = 0
    for number in range(tries):
        limiter = pair[number % len(pair)][0]
        with suppress(LimitReached):
            count += limiter.charge(mine, 10.0, 0.0) is not None
        for _, shared in pair:
            await shared.synchronize()
    return count


@pytest.mark.parametrize(
    "limits", [{"requests_per_minute": 20}, {"tokens_per_minute": 200}, {"tokens_per_day": 200}]
)
async def test_two_gateways_with_a_store_apply_one_limit(limits: dict[str, int]) -> None:
    pair = gateways(2, MemoryStore())
    mine = caller(**limits)
    for limiter, _ in pair:  # before the first exchange a process does not know the others
        limiter.charge(mine, 10.0, 0.0)
    assert 20 <= 2 + await admitted(pair, mine, 60) <= 22


async def test_a_restart_continues_the_day() -> None:
    store = MemoryStore()
    mine = caller(tokens_per_day=100)
    assert await admitted(gateways(1, store), mine, 8) == 8
    after = gateways(1, store)
    assert await admitted(after, mine, 20) in (2, 3)  # one before the first exchange


@pytest.mark.parametrize("written", [False, True])
async def test_a_dead_store_refuses_nothing_and_its_return_counts_once(written: bool) -> None:
    store = MemoryStore(written_before_failure=written)
    pair = gateways(2, store)
    mine = caller(tokens_per_day=100)
    assert await admitted(pair[:1], mine, 2) == 2
    store.dead = True
    assert await admitted(pair[:1], mine, 3) == 3
    assert (pair[0][1].reachable, pair[0][1].errors) == (False, 3)
    store.dead = False
    assert await admitted(pair[:1], mine, 1) == 1
    assert (pair[0][1].reachable, pair[0][1].errors) == (True, 3)
    assert sum(store.hashes["r1:usage:a:day:2026-11-30"].values()) == 60


def test_metrics_name_twenty_tenants_and_the_heaviest_get_the_names() -> None:
    usage = UsageByTenant()
    for number in range(40):
        usage.count(f"t{number}", 0, 200, 10, 10, 0.0, None, 0.0)
    assert len(usage.tenants) == 21
    assert usage.tenants[OTHER].input_tokens[0] == 200
    for _ in range(RANK_EVERY + 1):
        usage.count("heavy", 0, 200, 1000, 0, 0.0, None, 0.0)
    assert "heavy" in usage.tenants
    assert len(usage.tenants) == 21

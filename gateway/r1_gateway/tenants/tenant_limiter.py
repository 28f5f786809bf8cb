"""Limits of tenants: requests and tokens per minute, tokens per day and month.

A request is charged its estimated tokens at arrival, and the difference to the real ones at its end.
The decision is local and waits for nothing.  :mod:`~r1_gateway.tenants.shared_usage` adds what other
gateways charged to the same tenants, and what was charged before a restart.
"""

from __future__ import annotations

import calendar
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from r1_gateway.tenants.caller import Caller
from r1_gateway.tenants.limits import NO_LIMITS, TenantLimits
from r1_gateway.tenants.token_bucket import TokenBucket

DAY_SECONDS = 86400
REQUESTS, TOKENS = "requests", "tokens"


@dataclass(eq=False)
class LimitReached(Exception):
    """A request that a limit of its tenant refuses."""

    limit: str
    """The field of the keys file."""
    kind: str
    """``requests`` or ``tokens``."""
    message: str
    retry_after_seconds: int
    headers: bytes
    """The ``x-ratelimit-*`` header lines."""


@dataclass(slots=True)
class UsageWindow:
    """Tokens of a tenant in one calendar window of UTC."""

    name: str
    """``day:2026-11-30`` or ``month:2026-11``."""
    ends: float
    """Unix seconds of the end."""
    own: float = 0.0
    """Charged by this gateway since its start."""
    others: float = 0.0
    """Charged by other gateways, and by earlier processes."""

    @property
    def used(self) -> float:
        """Charged by all."""
        return self.own + self.others


@dataclass(slots=True)
class Account:
    """Charges of one tenant on this gateway, and what it knows of the others."""

    tenant: str
    limits: TenantLimits = NO_LIMITS
    requests: TokenBucket | None = None
    tokens: TokenBucket | None = None
    windows: dict[str, UsageWindow] = field(default_factory=dict)
    """By kind, ``day`` and ``month``."""
    has_windows: bool = False
    """Whether the tenant has a limit per day or month."""
    used_at: float = 0.0
    """Monotonic seconds of the last request."""
    total_requests: float = 0.0
    """Charged to the limits per minute since the start of the process."""
    total_tokens: float = 0.0
    others: dict[str, float] = field(default_factory=dict)
    """The same of the other gateways, when it was last read; by counter."""

    def apply(self, limits: TenantLimits, share: float, now: float) -> None:
        """Apply changed limits; what was charged stays charged."""
        self.limits = limits
        self.has_windows = bool(limits.tokens_per_day or limits.tokens_per_month)
        self.requests = _resized(self.requests, limits.requests_per_minute, share, now)
        self.tokens = _resized(self.tokens, limits.tokens_per_minute, share, now)

    def totals(self) -> list[tuple[str, float, float | None]]:
        """This gateway's counters: name, total, and the end of a window in unix seconds."""
        found: list[tuple[str, float, float | None]] = []
        if self.requests is not None:
            found.append((REQUESTS, self.total_requests, None))
        if self.tokens is not None:
            found.append((TOKENS, self.total_tokens, None))
        found += [(window.name, window.own, window.ends) for window in self.windows.values()]
        return found

    def apply_others(self, name: str, total: float, now: float) -> None:
        """Apply the other gateways' total of a counter."""
        for window in self.windows.values():
            if window.name == name:
                window.others = total
                return
        bucket = self.requests if name == REQUESTS else self.tokens
        before = self.others.get(name)
        self.others[name] = total
        if bucket is not None and before is not None and total > before:
            bucket.take(total - before, now)


@dataclass(slots=True)
class Charge:
    """What one request was charged at arrival; settled once."""

    account: Account
    tokens: float
    headers: bytes
    """The ``x-ratelimit-*`` header lines of its response."""


class TenantLimiter:
    """Accounts of all limited tenants.

    Without a shared store each of several gateways applies its part of every limit.
    """

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self.accounts: dict[str, Account] = {}
        self.shared = False
        """Whether the accounts have the charges of all gateways."""
        self.gateways = 1
        self._wall_clock = wall_clock
        self._share = 1.0

    def charge(self, caller: Caller, tokens: float, now: float) -> Charge | None:
        """Charge a request of estimated ``tokens``; None for a tenant without limits.

        Raises:
            LimitReached: nothing was charged.
        """
        limits = caller.limits
        if limits is NO_LIMITS:
            return None
        account = self._account(caller, now)
        windows = self._open_windows(account) if account.has_windows else _NO_WINDOWS
        for window, limit in windows:
            limit *= self._share
            if window.used + min(tokens, limit) > limit:
                kind = window.name.partition(":")[0].title()
                seconds = window.ends - self._wall_clock()
                raise _refused(account, f"tokensPer{kind}", TOKENS, limit, seconds, now)
        requests, token_bucket = account.requests, account.tokens
        if requests is not None and not requests.fits(1.0, now):
            seconds = requests.return_seconds(1.0, now)
            raise _refused(account, "requestsPerMinute", REQUESTS, requests.capacity, seconds, now)
        if token_bucket is not None:
            if not token_bucket.fits(tokens, now):
                seconds = token_bucket.return_seconds(tokens, now)
                limit = token_bucket.capacity
                raise _refused(account, "tokensPerMinute", TOKENS, limit, seconds, now)
            token_bucket.take(tokens, now)
            account.total_tokens += tokens
        if requests is not None:
            requests.take(1.0, now)
            account.total_requests += 1.0
        for window, _ in windows:
            window.own += tokens
        return Charge(account, tokens, _headers(account, now))

    def settle(self, charge: Charge, tokens: float, now: float) -> None:
        """Correct a charge to the tokens that the request really used."""
        difference = tokens - charge.tokens
        if not difference:
            return
        account = charge.account
        if account.tokens is not None:
            account.tokens.take(difference, now)
            account.total_tokens += difference
        if account.has_windows:
            for window, _ in self._open_windows(account):
                window.own += difference

    def _account(self, caller: Caller, now: float) -> Account:
        share = 1.0 if self.shared else 1.0 / max(self.gateways, 1)
        if share != self._share:
            self._share = share
            for account in self.accounts.values():
                account.apply(account.limits, share, now)
        found = self.accounts.get(caller.tenant)
        if found is None:
            found = self.accounts[caller.tenant] = Account(caller.tenant)
        if found.limits is not caller.limits:
            found.apply(caller.limits, share, now)
        found.used_at = now
        return found

    def _open_windows(self, account: Account) -> list[tuple[UsageWindow, float]]:
        """The current day and month of a tenant with such limits, and the limits."""
        limits = account.limits
        found: list[tuple[UsageWindow, float]] = []
        at = self._wall_clock()
        for kind, limit in (("day", limits.tokens_per_day), ("month", limits.tokens_per_month)):
            if limit is None:
                continue
            window = account.windows.get(kind)
            if window is None or at >= window.ends:
                window = account.windows[kind] = open_window(kind, at)
            found.append((window, float(limit)))
        return found


def open_window(kind: str, at: float) -> UsageWindow:
    """The calendar window of UTC (``day`` or ``month``) that contains the unix time ``at``."""
    date = time.gmtime(at)
    if kind == "day":
        begins = calendar.timegm((date.tm_year, date.tm_mon, date.tm_mday, 0, 0, 0))
        return UsageWindow(time.strftime("day:%Y-%m-%d", date), begins + DAY_SECONDS)
    year, month = date.tm_year + date.tm_mon // 12, date.tm_mon % 12 + 1
    return UsageWindow(
        time.strftime("month:%Y-%m", date), calendar.timegm((year, month, 1, 0, 0, 0))
    )


def _resized(
    bucket: TokenBucket | None, limit: int | None, share: float, now: float
) -> TokenBucket | None:
    if limit is None:
        return None
    capacity = max(limit * share, 1.0)
    if bucket is None:
        return TokenBucket(capacity, now)
    bucket.resize(capacity, now)
    return bucket


def _refused(
    account: Account, limit: str, kind: str, value: float, seconds: float, now: float
) -> LimitReached:
    whole = max(math.ceil(seconds), 1)
    return LimitReached(
        limit,
        kind,
        f"tenant {account.tenant!r} reached its limit {limit} of {value:.0f} {kind}; "
        f"retry after {whole} s",
        whole,
        _headers(account, now),
    )


def _headers(account: Account, now: float) -> bytes:
    """The ``x-ratelimit-*`` lines of OpenAI for the limits per minute."""
    requests, tokens = account.requests, account.tokens
    lines = b"" if requests is None else _lines(requests, b"requests", now)
    return lines if tokens is None else lines + _lines(tokens, b"tokens", now)


def _lines(bucket: TokenBucket, kind: bytes, now: float) -> bytes:
    level = bucket.level(now)
    return b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n" % (
        kind, bucket.shown, kind, level if level > 0.0 else 0, kind,
        _duration((bucket.capacity - level) / bucket.per_second),
    )  # fmt: skip


_NO_WINDOWS: list[tuple[UsageWindow, float]] = []


def _duration(seconds: float) -> bytes:
    """A time as OpenAI writes it: ``120ms``, ``6.5s``, ``1m0s``."""
    if seconds < 1.0:
        return b"%dms" % int(seconds * 1000.0 + 0.999)
    if seconds < 60.0:
        return f"{seconds:.4g}s".encode()
    minutes, rest = divmod(math.ceil(seconds), 60)
    return b"%dm%ds" % (minutes, rest)

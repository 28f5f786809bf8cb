"""Limits of a tenant, as configured in the keys file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """Most requests and tokens (prompt and output together); None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    """Per day of UTC."""
    tokens_per_month: int | None = None
    """Per calendar month of UTC."""


NO_LIMITS = TenantLimits()
FIELDS = {
    "requestsPerMinute": "requests_per_minute",
    "tokensPerMinute": "tokens_per_minute",
    "tokensPerDay": "tokens_per_day",
    "tokensPerMonth": "tokens_per_month",
}
"""Field of the keys file -> attribute."""

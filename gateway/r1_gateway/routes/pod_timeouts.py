"""Timeouts of a request on its pod, from the route's ``timeouts``."""

from __future__ import annotations

from r1_common.contracts.route import Timeouts


def exceeded_timeout(
    timeouts: Timeouts, seconds: float, head_seconds: float | None, idle_seconds: float
) -> str | None:
    """The timeout that a request exceeds, as text, or None.

    ``seconds`` since its first seat; ``head_seconds`` since it was sent, None once the head of the
    response is there; ``idle_seconds`` since the last byte.
    """
    if seconds > timeouts.total_seconds:
        return f"the response took longer than totalSeconds ({timeouts.total_seconds:g} s)"
    if head_seconds is not None:
        if head_seconds > timeouts.response_head_seconds:
            limit = timeouts.response_head_seconds
            return f"no response head within responseHeadSeconds ({limit:g} s)"
    elif idle_seconds > timeouts.stream_idle_seconds:
        limit = timeouts.stream_idle_seconds
        return f"no bytes for streamIdleSeconds ({limit:g} s) within the response"
    return None

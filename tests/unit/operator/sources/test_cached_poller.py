"""Background polling: period, one request at a time, outages."""

import asyncio

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.sources.cached_poller import UNREACHABLE, CachedPoller, CachedResponse

SILENCE = Unavailable(UNREACHABLE, "nobody there")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Replies:
    """Responses of the peer, and the number of requests."""

    def __init__(self) -> None:
        self.next: int | Unavailable = 1
        self.requests = 0
        self.held: asyncio.Event | None = None

    async def __call__(self) -> int | Unavailable:
        self.requests += 1
        if self.held is not None:
            await self.held.wait()
        return self.next


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def poller(clock: Clock, holds: bool = True) -> CachedPoller[str, int]:
    return CachedPoller("http://peer/", "The peer", is_valid=lambda _: holds, clock=clock)


async def test_a_key_is_polled_once_per_period_with_ten_percent_jitter() -> None:
    clock, replies = Clock(), Replies()
    peer = poller(clock)
    assert peer.latest("a") is None
    for at in (0.0, 0.0, 8.9, 11.1, 11.1):
        clock.now = at
        peer.poll("a", replies, 10.0)
        await turn()
    assert replies.requests == 2
    assert peer.latest("a") == CachedResponse(11.1, 1)
    await peer.close()


async def test_each_key_has_one_request_at_a_time() -> None:
    clock, replies = Clock(), Replies()
    replies.held = asyncio.Event()
    peer = poller(clock)
    peer.poll("a", replies, 10.0)
    await turn()
    peer.poll("a", replies, 10.0, immediately=True)
    await turn()
    assert replies.requests == 1
    replies.held.set()
    await turn()
    peer.poll("a", replies, 10.0, immediately=True)
    await turn()
    assert replies.requests == 2
    await peer.close()


async def test_an_outage_keeps_a_valid_value_and_replaces_an_invalid_one() -> None:
    for holds in (True, False):
        clock, replies = Clock(), Replies()
        peer = poller(clock, holds)
        peer.poll("a", replies, 10.0)
        await turn()
        clock.now, replies.next = 20.0, SILENCE
        peer.poll("a", replies, 10.0)
        await turn()
        assert peer.latest("a") == (
            CachedResponse(0.0, 1) if holds else CachedResponse(20.0, SILENCE)
        )
        await peer.close()


async def test_an_error_response_replaces_a_valid_value() -> None:
    clock, replies = Clock(), Replies()
    peer = poller(clock)
    peer.poll("a", replies, 10.0)
    await turn()
    clock.now, replies.next = 20.0, Unavailable("Refused", "no")
    peer.poll("a", replies, 10.0)
    await turn()
    assert peer.latest("a") == CachedResponse(20.0, replies.next)
    await peer.close()


async def test_a_dropped_key_ignores_its_pending_response() -> None:
    clock, replies = Clock(), Replies()
    replies.held = asyncio.Event()
    peer = poller(clock)
    peer.poll("a", replies, 10.0)
    await turn()
    peer.forget("a")
    replies.held.set()
    await turn()
    assert peer.latest("a") is None
    assert peer.keys == ()
    await peer.close()


async def test_expire_makes_the_next_poll_due_earlier() -> None:
    clock, replies = Clock(), Replies()
    peer = poller(clock)
    peer.poll("a", replies, 1000.0)
    await turn()
    peer.expire("a")
    peer.poll("a", replies, 1000.0)
    await turn()
    assert replies.requests == 2
    peer.expire("a", within_seconds=15.0)
    for at in (14.0, 16.0):
        clock.now = at
        peer.poll("a", replies, 1000.0)
        await turn()
    assert replies.requests == 3
    await peer.close()


async def test_an_unreachable_peer_is_reported_as_unreachable() -> None:
    peer: CachedPoller[str, int] = CachedPoller(
        "http://127.0.0.1:9", "The peer", is_valid=lambda _: True
    )
    response = await peer.fetch("GET", "/")
    assert isinstance(response, Unavailable)
    assert response.reason == UNREACHABLE
    assert response.message.startswith("The peer does not answer: ")
    await peer.close()


async def test_an_unreadable_response_is_logged_and_unavailable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = poller(Clock(), holds=False)

    async def raising() -> int | Unavailable:
        raise KeyError("levels")

    peer.poll("a", raising, 10.0)
    await turn()
    known = peer.latest("a")
    assert known is not None
    assert isinstance(known.value, Unavailable)
    assert "KeyError: 'levels'" in known.value.message
    assert "Traceback" in caplog.text
    await peer.close()

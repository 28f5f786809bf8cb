"""Questions asked in the background: at their own pace, one at a time, silence told apart."""

import asyncio

import pytest

from r1_operator.plan.unavailable import Unavailable
from r1_operator.sources.cached_poller import UNREACHABLE, CachedPoller, CachedResponse

SILENCE = Unavailable(UNREACHABLE, "nobody there")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Replies:
    """What comes back, and how often it was asked for."""

    def __init__(self) -> None:
        self.next: int | Unavailable = 1
        self.asked = 0
        self.held: asyncio.Event | None = None

    async def __call__(self) -> int | Unavailable:
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        return self.next


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def poller(clock: Clock, holds: bool = True) -> CachedPoller[str, int]:
    return CachedPoller("http://peer/", "The peer", is_valid=lambda _: holds, clock=clock)


async def test_a_question_is_asked_once_a_period_give_or_take_a_tenth() -> None:
    clock, replies = Clock(), Replies()
    peer = poller(clock)
    assert peer.latest("a") is None
    for at in (0.0, 0.0, 8.9, 11.1, 11.1):
        clock.now = at
        peer.poll("a", replies, 10.0)
        await turn()
    assert replies.asked == 2
    assert peer.latest("a") == CachedResponse(11.1, 1)
    await peer.close()


async def test_one_question_of_a_kind_is_under_way_at_a_time() -> None:
    clock, replies = Clock(), Replies()
    replies.held = asyncio.Event()
    peer = poller(clock)
    peer.poll("a", replies, 10.0)
    await turn()
    peer.poll("a", replies, 10.0, immediately=True)
    await turn()
    assert replies.asked == 1
    replies.held.set()
    await turn()
    peer.poll("a", replies, 10.0, immediately=True)
    await turn()
    assert replies.asked == 2
    await peer.close()


async def test_silence_leaves_an_answer_that_holds_and_replaces_one_that_does_not() -> None:
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


async def test_a_refusal_replaces_even_an_answer_that_holds() -> None:
    clock, replies = Clock(), Replies()
    peer = poller(clock)
    peer.poll("a", replies, 10.0)
    await turn()
    clock.now, replies.next = 20.0, Unavailable("Refused", "no")
    peer.poll("a", replies, 10.0)
    await turn()
    assert peer.latest("a") == CachedResponse(20.0, replies.next)
    await peer.close()


async def test_what_was_forgotten_while_it_was_asked_does_not_come_back() -> None:
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


async def test_expiry_asks_at_the_next_look_and_sooner_brings_it_nearer() -> None:
    clock, replies = Clock(), Replies()
    peer = poller(clock)
    peer.poll("a", replies, 1000.0)
    await turn()
    peer.expire("a")
    peer.poll("a", replies, 1000.0)
    await turn()
    assert replies.asked == 2
    peer.expire("a", within_seconds=15.0)
    for at in (14.0, 16.0):
        clock.now = at
        peer.poll("a", replies, 1000.0)
        await turn()
    assert replies.asked == 3
    await peer.close()


async def test_a_peer_that_is_not_there_is_said_to_be_silent() -> None:
    peer: CachedPoller[str, int] = CachedPoller(
        "http://127.0.0.1:9", "The peer", is_valid=lambda _: True
    )
    said = await peer.fetch("GET", "/")
    assert isinstance(said, Unavailable)
    assert said.reason == UNREACHABLE
    assert said.message.startswith("The peer does not answer: ")
    await peer.close()


async def test_an_answer_that_cannot_be_read_is_logged_and_known_as_unavailable(
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

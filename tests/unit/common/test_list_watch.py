"""List and watch with a collection that fails in several ways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, Self, cast

import aiohttp
import pytest

from r1_common.kube.list_watch import (
    LONGEST_PAUSE_SECONDS,
    InvalidEvent,
    KubeObject,
    ListWatch,
    jittered_pause,
)


class Refused(Exception):
    """The server's error."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Watch:
    """A response whose lines are known."""

    connection = None

    def __init__(self, lines: list[bytes]) -> None:
        self.content = SimpleNamespace(iter_any=self._data)
        self._lines_ = lines

    async def _data(self) -> AsyncIterator[bytes]:
        for line in self._lines_:
            yield line + b"\n"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


class Script:
    """A collection and its sink: each watch takes the next entry, then the run ends."""

    def __init__(self, watches: list[Any], *, pages: list[Any] | None = None) -> None:
        self.watches = watches
        self.pages = pages or [{"metadata": {"resourceVersion": "5"}, "items": []}]
        self.watched_from: list[str] = []
        self.listed = 0
        self.events: list[tuple[Any, Any]] = []
        self.pauses: list[int] = []
        self.reject: Exception | None = None

    async def list_pages(self) -> AsyncIterator[KubeObject]:
        for page in self.pages:
            yield page

    async def open_watch(self, version: str) -> aiohttp.ClientResponse:
        self.watched_from.append(version)
        if not self.watches:
            raise asyncio.CancelledError
        entry = self.watches.pop(0)
        if isinstance(entry, Exception):
            raise entry
        return cast("aiohttp.ClientResponse", Watch(entry))

    def begin_list(self) -> None:
        pass

    def add_page(self, page: KubeObject) -> None:
        pass

    def end_list(self) -> None:
        self.listed += 1

    def handle_event(self, event_type: Any, obj: Any) -> None:
        if self.reject is not None:
            error, self.reject = self.reject, None
            raise error
        self.events.append((event_type, obj))

    async def run(self) -> ListWatch:
        def pause(failures: int) -> float:
            self.pauses.append(failures)
            return 0.0

        loop = ListWatch(self, self, "things", client_errors=(Refused,), pause=pause)
        with pytest.raises(asyncio.CancelledError):
            await loop.run()
        return loop


def event(kind: str, version: str, **more: Any) -> bytes:
    return json.dumps(
        {"type": kind, "object": {"metadata": {"resourceVersion": version}, **more}}
    ).encode()


async def test_an_ended_watch_resumes_after_its_last_event_or_bookmark() -> None:
    script = Script([[event("ADDED", "6")], [event("BOOKMARK", "9")]])
    await script.run()
    assert script.watched_from == ["5", "6", "9"]
    assert (script.listed, len(script.events)) == (1, 1)


async def test_a_server_that_ends_each_watch_at_once_is_asked_after_a_pause() -> None:
    script = Script([[], [], []])
    await script.run()
    assert script.pauses == [1, 1, 1]


@pytest.mark.parametrize("status", [400, 410])
async def test_an_unusable_version_is_listed_again(status: int) -> None:
    script = Script([Refused(status)])
    await script.run()
    assert script.listed == 2


async def test_one_failure_of_the_server_resumes_and_the_second_lists_again() -> None:
    """After a restore of etcd, the version is in the future and each watch ends with 504."""
    script = Script([Refused(504)])
    await script.run()
    assert script.listed == 1
    script = Script([Refused(504), Refused(504)])
    await script.run()
    assert script.listed == 2


async def test_an_event_between_two_failures_of_the_server_keeps_the_version() -> None:
    script = Script([Refused(500), [event("ADDED", "6")], Refused(500)])
    await script.run()
    assert (script.listed, script.watched_from) == (1, ["5", "5", "6", "6"])


async def test_connection_failures_never_drop_the_version() -> None:
    script = Script([OSError("refused")] * 5)
    await script.run()
    assert (script.listed, script.pauses) == (1, [1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    "line", [b"no JSON", b"[" * 100_000, b'{"type": "ERROR", "object": {"code": 410}}']
)
async def test_an_unreadable_event_makes_the_collection_be_listed_again(line: bytes) -> None:
    script = Script([[line]])
    await script.run()
    assert script.listed == 2


async def test_an_event_that_the_sink_cannot_use_is_counted_and_listed_again() -> None:
    script = Script([[event("ADDED", "6")]])
    script.reject = InvalidEvent("no name")
    loop = await script.run()
    assert (script.listed, loop.invalid) == (2, 1)


async def test_a_defect_of_the_sink_is_logged_and_ends_no_watch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = Script([[event("ADDED", "6")]])
    script.reject = ZeroDivisionError("a defect")
    await script.run()
    assert script.listed == 2
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("page", [{}, {"metadata": {"resourceVersion": "5"}}, {"items": []}, [], 7])
async def test_a_page_without_items_deletes_nothing(page: Any) -> None:
    script = Script([], pages=[page])
    rounds = 0

    def pause(_: int) -> float:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise asyncio.CancelledError
        return 0.0

    loop = ListWatch(script, script, "things", pause=pause)
    with pytest.raises(asyncio.CancelledError):
        await loop.run()
    assert (script.listed, loop.invalid) == (0, 3)


async def test_a_failure_is_logged_once_until_its_text_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = Script([OSError("refused")] * 3 + [OSError("reset")])
    await script.run()
    assert [record.message.partition("retrying: ")[2] for record in caplog.records] == [
        "refused; keeping the last state",
        "reset; keeping the last state",
    ]


def test_pauses_grow_to_their_limit_with_jitter() -> None:
    assert all(0 <= jittered_pause(1) <= 0.5 for _ in range(100))
    late = [jittered_pause(50) for _ in range(200)]
    assert max(late) <= LONGEST_PAUSE_SECONDS
    assert max(late) - min(late) > LONGEST_PAUSE_SECONDS / 2

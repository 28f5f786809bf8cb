"""The work queue, in virtual time."""

import asyncio
import random
from itertools import pairwise

import pytest

from r1_operator.controller.workqueue import Backoff, WorkQueue

pytestmark = pytest.mark.looptime


class Bench:
    """A queue with workers that record the processed keys and times."""

    def __init__(self, workers: int = 2) -> None:
        self.queue: WorkQueue[str] = WorkQueue(
            backoff=Backoff(base_seconds=1, cap_seconds=8), rng=random.Random(1)
        )
        self.done: list[tuple[float, str]] = []
        self.at_once: dict[str, int] = {}
        self.fail: dict[str, int] = {}
        self.again: dict[str, float] = {}
        self.takes = 0.1
        self._task = asyncio.create_task(self.queue.run(workers, self.work))

    async def work(self, key: str, waited: float) -> float | None:
        self.at_once[key] = self.at_once.get(key, 0) + 1
        assert self.at_once[key] == 1, "one key is never worked on twice at a time"
        await asyncio.sleep(self.takes)
        self.at_once[key] -= 1
        self.done.append((asyncio.get_running_loop().time(), key))
        if self.fail.get(key, 0):
            self.fail[key] -= 1
            raise ConnectionError("away")
        return self.again.pop(key, None)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def count(self, key: str) -> int:
        return sum(done == key for _, done in self.done)


async def test_a_key_added_many_times_is_processed_once() -> None:
    bench = Bench()
    for _ in range(50):
        bench.queue.add("a")
    await asyncio.sleep(5)
    assert bench.count("a") == 1
    await bench.stop()


async def test_a_key_added_during_processing_is_processed_again() -> None:
    bench = Bench()
    bench.queue.add("a")
    await asyncio.sleep(0.05)
    for _ in range(10):
        bench.queue.add("a")
    await asyncio.sleep(5)
    assert bench.count("a") == 2
    await bench.stop()


async def test_a_failing_key_backs_off_and_does_not_block_others() -> None:
    bench = Bench(workers=1)
    bench.fail["bad"] = 4
    bench.queue.add("bad")
    for n in range(5):
        bench.queue.add(f"good-{n}")
    await asyncio.sleep(1.0)
    assert all(bench.count(f"good-{n}") == 1 for n in range(5))
    await asyncio.sleep(60)
    times = [at for at, key in bench.done if key == "bad"]
    assert len(times) == 5, "four failures, then done, then quiet"
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert all(1 <= pause <= 8.2 for pause in pauses)
    assert pauses[-1] > pauses[0]
    await bench.stop()


async def test_a_success_resets_the_failure_count() -> None:
    bench = Bench()
    bench.fail["a"] = 3
    bench.queue.add("a")
    await asyncio.sleep(60)
    bench.done.clear()
    bench.fail["a"] = 1
    bench.queue.add("a")
    await asyncio.sleep(2.5)
    assert bench.count("a") == 2, "the first pause is short again"
    await bench.stop()


async def test_the_earliest_delay_of_a_key_applies() -> None:
    bench = Bench()
    bench.queue.add_after("a", 100)
    bench.queue.add_after("a", 10)
    bench.queue.add_after("a", 50)
    await asyncio.sleep(200)
    assert [round(at) for at, _ in bench.done] == [10]
    await bench.stop()


async def test_work_can_request_a_requeue() -> None:
    bench = Bench()
    bench.again["a"] = 30.0
    bench.queue.add("a")
    await asyncio.sleep(100)
    assert [round(at) for at, _ in bench.done] == [0, 30]
    await bench.stop()


async def test_an_immediate_add_replaces_a_delayed_one() -> None:
    bench = Bench()
    bench.queue.add_after("a", 10)
    bench.queue.add("a")
    await asyncio.sleep(100)
    assert bench.count("a") == 1
    await bench.stop()


async def test_the_queue_is_idle_without_ready_and_processing_keys() -> None:
    bench = Bench()
    await bench.queue.wait_idle()
    bench.queue.add("a")
    await bench.queue.wait_idle()
    assert bench.count("a") == 1
    assert len(bench.queue) == 0
    await bench.stop()


async def test_two_workers_process_a_thousand_keys() -> None:
    bench = Bench(workers=2)
    bench.takes = 0.001
    rng = random.Random(3)
    for n in range(3000):
        bench.queue.add(f"k{rng.randrange(1000)}")
        if n % 100 == 0:
            await asyncio.sleep(0.01)
    wanted = {f"k{n}" for n in range(1000)}
    for key in wanted:
        bench.queue.add(key)
    await bench.queue.wait_idle()
    assert {key for _, key in bench.done} == wanted
    await bench.stop()

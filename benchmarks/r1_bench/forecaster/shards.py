"""Several forecasters that share the subjects: what each carries, and what the way between costs.

Real processes with the list of each other, asked as one operator asks through one Service: every
question at the next door, whoever owns the subject. What is measured:

- *shares*: subjects, CPU of first answers and memory of each shard;
- *a minute's answers*: CPU by shard; latency of what was asked at its owner and of what was not;
- *the way*: the same answers, known to their owner already, at the owner's door and at another:
  CPU of all shards together by question, in turns so that a busy machine is the same for both.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from r1_bench.forecaster.requests import (
    NO_FORECAST,
    Doors,
    QueryResult,
    first_answers,
    minutes_of_answers,
    quantile,
    subject_name,
)
from r1_bench.gateway.benchmark import cpu_seconds, free_port, process, rss_mb
from r1_bench.rows import BenchmarkRow
from r1_forecasting.sharding.ownership import owner_of

ROUNDS, ROUND = 8, 250
"""Turns of known answers, and questions in each."""


@dataclass(frozen=True, slots=True)
class Release:
    """Shards by number: names, processes, doors."""

    names: list[str]
    pids: list[int]
    doors: Doors

    def owner(self, subject: int) -> int:
        """The number of the shard that keeps it."""
        return self.names.index(owner_of(subject_name(subject), self.names))

    def owned(self, asked: list[QueryResult], here: bool) -> list[QueryResult]:
        """What was asked at its owner's door, or at another's."""
        return [each for each in asked if (self.owner(each.subject) == each.door) is here]

    def cpu(self) -> list[float]:
        """CPU (s) of each shard so far, its training process not included."""
        return [cpu_seconds(pid) for pid in self.pids]


@contextlib.asynccontextmanager
async def release(folder: Path, shards: int, models: str) -> AsyncIterator[Release]:
    """That many forecasters beside one stand-in for Prometheus."""
    async with contextlib.AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r1-shards-")))
        past = free_port()
        command = [sys.executable, "-m", "r1_bench.forecaster.backfill", f"--traces={folder}"]
        stack.enter_context(process([*command, f"--port={past}"], None, past, logs / "past.log"))
        ports = [free_port() for _ in range(shards)]
        names = [f"r1-forecaster-{number}" for number in range(shards)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        listed = logs / "shards.json"
        listed.write_text(json.dumps(dict(zip(names, urls, strict=True))))
        pids, sessions = [], []
        for name, port, url in zip(names, ports, urls, strict=True):
            command = [
                sys.executable, "-m", "r1_forecasting", "--host=127.0.0.1", f"--port={port}",
                f"--models={models}", f"--prometheus-url=http://127.0.0.1:{past}",
                f"--shard={name}", f"--shards={listed}", "--log-level=warning",
            ]  # fmt: skip
            pids.append(stack.enter_context(process(command, None, port, logs / f"{name}.log")))
            session = aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=60))
            sessions.append(await stack.enter_async_context(session))
        yield Release(names, pids, Doors(sessions))


async def measure_shards(
    folder: Path, count: int, minutes: float, models: str, shards: int
) -> list[BenchmarkRow]:
    """Several forecasters from their start to `minutes` of serving all subjects."""
    what = f"{count:,} subjects on {shards}"
    async with release(folder, shards, models) as made:
        alone = [rss_mb(pid) for pid in made.pids]
        before, began = made.cpu(), time.monotonic()
        asked = await first_answers(made.doors, count)
        spent = [now - then for now, then in zip(made.cpu(), before, strict=True)]
        owned = [0] * shards
        for subject in range(count):
            owned[made.owner(subject)] += 1
        rows = [
            BenchmarkRow(f"{what}: first answers, all shards", "s CPU", sum(spent)),
            BenchmarkRow(f"{what}: first answers, wall time", "s", time.monotonic() - began),
            BenchmarkRow(f"{what}: subjects of the fullest by the mean", "ratio",
                max(owned) * shards / count, bar=1.1),
            BenchmarkRow(f"{what}: first answers, owner silent", "answers",
                sum(each.reason == "Unreachable" for each in asked)),
        ]  # fmt: skip
        kept = [await subjects_kept(session) for session in made.doors.sessions]
        for number, pid in enumerate(made.pids):
            name = f"{what}: shard {number}"
            added = (rss_mb(pid) - alone[number]) / max(kept[number], 1) * 1024
            rows += [
                BenchmarkRow(f"{name}: subjects that it keeps", "subjects", kept[number]),
                BenchmarkRow(f"{name}: first answers", "s CPU", spent[number]),
                BenchmarkRow(f"{name}: memory without learned models", "MB", rss_mb(pid)),
                BenchmarkRow(f"{name}: a subject adds", "KB", added),
            ]
        rows.append(
            BenchmarkRow(f"{what}: subjects that have more than one home", "subjects", sum(kept) - count,
                bar=0.0),
        )  # fmt: skip
        print(f"serving for {minutes:g} minutes ...", file=sys.stderr, flush=True)
        before, began = made.cpu(), time.monotonic()
        asked = await minutes_of_answers(made.doors, count, minutes)
        elapsed = time.monotonic() - began
        spent = [now - then for now, then in zip(made.cpu(), before, strict=True)]
        rows += minute_rows(what, made, asked, spent, elapsed)
        rows += await way_rows(what, made, asked, 1000 * sum(spent) / len(asked))
    return rows


async def subjects_kept(session: aiohttp.ClientSession) -> int:
    """How many a shard says that it keeps."""
    async with session.get("/healthz") as reply:
        return int((await reply.json())["series"])


def minute_rows(
    what: str, made: Release, asked: list[QueryResult], spent: list[float], elapsed: float
) -> list[BenchmarkRow]:
    """CPU by shard; latencies of what was asked elsewhere beside what was asked at its owner."""
    here, there = made.owned(asked, here=True), made.owned(asked, here=False)
    rows = [
        BenchmarkRow(f"{what}: shard {number} takes of a core", "share", each / elapsed, bar=0.5)
        for number, each in enumerate(spent)
    ]
    rows.append(
        BenchmarkRow(f"{what}: CPU of an answer, all shards", "ms", 1000 * sum(spent) / len(asked))
    )
    for level, name in ((0.5, "p50"), (0.99, "p99")):
        rows.append(
            BenchmarkRow(f"{what}: forwarded answers, {name}", "ms", quantile(there, level), "owned",
                quantile(here, level))
        )  # fmt: skip
    rows += [
        BenchmarkRow(f"{what}: share of the answers that were forwarded", "share", len(there) / len(asked)),
        BenchmarkRow(f"{what}: owner silent", "answers", sum(a.reason == "Unreachable" for a in asked),
            bar=0.0),
    ]  # fmt: skip
    return rows


async def way_rows(
    what: str, made: Release, served: list[QueryResult], answer_ms: float
) -> list[BenchmarkRow]:
    """Known answers at the owner's door and at another, in turns; ``answer_ms`` is one's CPU."""
    cpu: dict[bool, list[float]] = {True: [], False: []}
    asked: dict[bool, list[QueryResult]] = {True: [], False: []}
    # What has no data is looked for again each second, and would be a read, not an answer known.
    subjects = sorted({each.subject for each in served if each.reason not in NO_FORECAST})[:ROUND]
    for _ in range(ROUNDS):
        for subject in subjects:  # so that both find the same answers, and none is made meanwhile
            await made.doors.ask(subject, made.owner(subject))
        for here in (True, False):
            before = sum(made.cpu())
            for subject in subjects:
                door = (made.owner(subject) + (not here)) % len(made.pids)
                asked[here].append(await made.doors.ask(subject, door))
            cpu[here].append(1000 * (sum(made.cpu()) - before) / len(subjects))
    owned, forwarded = statistics.median(cpu[True]), statistics.median(cpu[False])
    rows = [
        BenchmarkRow(f"{what}: known answer, forwarded", "ms CPU", forwarded, "owned", owned),
        BenchmarkRow(f"{what}: the way to the owner and back", "ms CPU", forwarded - owned, "an answer",
            answer_ms, bar=1.0),
    ]  # fmt: skip
    for level, name in ((0.5, "p50"), (0.99, "p99")):
        rows.append(
            BenchmarkRow(f"{what}: known answer, forwarded, {name}", "ms", quantile(asked[False], level),
                "owned", quantile(asked[True], level))
        )  # fmt: skip
    return rows

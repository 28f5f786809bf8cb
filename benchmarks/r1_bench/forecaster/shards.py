"""Cost of several forecasters that share the series: load of each shard, and cost of forwarding.

Real processes know each other's addresses. The requests are those of one operator through one Service:
each goes to the next shard, which need not own the series. Measurements:

- *shares*: series, CPU of the first forecasts and memory of each shard;
- *a minute of requests*: CPU by shard; latency of requests at the owner and at another shard;
- *forwarding*: cached responses requested at the owner and at another shard: CPU of all shards per
  request. Both take turns, so that other load of the machine affects them equally.
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
    ForecasterClients,
    TimedResponse,
    first_forecasts,
    minutes_of_requests,
    quantile,
    series_name_of,
)
from r1_bench.gateway.benchmark import cpu_seconds, free_port, process, rss_mb
from r1_bench.rows import BenchmarkRow
from r1_forecasting.sharding.ownership import owner_of

ROUNDS, ROUND = 8, 250
"""Turns of cached responses, and requests in each."""


@dataclass(frozen=True, slots=True)
class Release:
    """Shards by number: names, pids, clients."""

    names: list[str]
    pids: list[int]
    clients: ForecasterClients

    def owner(self, series_number: int) -> int:
        """Return the number of the shard that owns a series."""
        return self.names.index(owner_of(series_name_of(series_number), self.names))

    def owned(self, responses: list[TimedResponse], here: bool) -> list[TimedResponse]:
        """Return the responses of owners (`here`) or of other shards."""
        return [
            each for each in responses if (self.owner(each.series_number) == each.shard) is here
        ]

    def cpu(self) -> list[float]:
        """CPU (s) of each shard so far, its training process not included."""
        return [cpu_seconds(pid) for pid in self.pids]


@contextlib.asynccontextmanager
async def release(folder: Path, shards: int, models: str) -> AsyncIterator[Release]:
    """Start forecasters and one substitute for Prometheus."""
    async with contextlib.AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r1-shards-")))
        history_port = free_port()
        command = [sys.executable, "-m", "r1_bench.forecaster.backfill", f"--traces={folder}"]
        stack.enter_context(
            process([*command, f"--port={history_port}"], None, history_port, logs / "history.log")
        )
        ports = [free_port() for _ in range(shards)]
        names = [f"r1-forecaster-{number}" for number in range(shards)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        shard_list = logs / "shards.json"
        shard_list.write_text(json.dumps(dict(zip(names, urls, strict=True))))
        pids, sessions = [], []
        for name, port, url in zip(names, ports, urls, strict=True):
            command = [
                sys.executable, "-m", "r1_forecasting", "--host=127.0.0.1", f"--port={port}",
                f"--models={models}", f"--prometheus-url=http://127.0.0.1:{history_port}",
                f"--shard={name}", f"--shards={shard_list}", "--log-level=warning",
            ]  # fmt: skip
            pids.append(stack.enter_context(process(command, None, port, logs / f"{name}.log")))
            session = aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=60))
            sessions.append(await stack.enter_async_context(session))
        yield Release(names, pids, ForecasterClients(sessions))


async def measure_shards(
    folder: Path, count: int, minutes: float, models: str, shards: int
) -> list[BenchmarkRow]:
    """Measure several forecasters from their start until they have served all series for `minutes`."""
    what = f"{count:,} series on {shards}"
    async with release(folder, shards, models) as made:
        alone = [rss_mb(pid) for pid in made.pids]
        before, began = made.cpu(), time.monotonic()
        responses = await first_forecasts(made.clients, count)
        spent = [now - then for now, then in zip(made.cpu(), before, strict=True)]
        owned = [0] * shards
        for series_number in range(count):
            owned[made.owner(series_number)] += 1
        rows = [
            BenchmarkRow(f"{what}: first forecasts, all shards", "s CPU", sum(spent)),
            BenchmarkRow(f"{what}: first forecasts, wall time", "s", time.monotonic() - began),
            BenchmarkRow(f"{what}: series of the fullest shard relative to the mean", "ratio",
                max(owned) * shards / count, bar=1.1),
            BenchmarkRow(f"{what}: first forecasts, owner did not respond", "responses",
                sum(each.reason == "Unreachable" for each in responses)),
        ]  # fmt: skip
        owned_count = [await owned_series(session) for session in made.clients.sessions]
        for number, pid in enumerate(made.pids):
            name = f"{what}: shard {number}"
            added = (rss_mb(pid) - alone[number]) / max(owned_count[number], 1) * 1024
            rows += [
                BenchmarkRow(f"{name}: owned series", "series", owned_count[number]),
                BenchmarkRow(f"{name}: first forecasts", "s CPU", spent[number]),
                BenchmarkRow(f"{name}: memory without learned models", "MB", rss_mb(pid)),
                BenchmarkRow(f"{name}: memory per series", "KB", added),
            ]
        rows.append(
            BenchmarkRow(f"{what}: series with more than one owner", "series", sum(owned_count) - count,
                bar=0.0),
        )  # fmt: skip
        print(f"serving for {minutes:g} minutes ...", file=sys.stderr, flush=True)
        before, began = made.cpu(), time.monotonic()
        responses = await minutes_of_requests(made.clients, count, minutes)
        elapsed = time.monotonic() - began
        spent = [now - then for now, then in zip(made.cpu(), before, strict=True)]
        rows += minute_rows(what, made, responses, spent, elapsed)
        rows += await forwarding_rows(what, made, responses, 1000 * sum(spent) / len(responses))
    return rows


async def owned_series(session: aiohttp.ClientSession) -> int:
    """Return the number of series that a shard reports."""
    async with session.get("/healthz") as response:
        return int((await response.json())["series"])


def minute_rows(
    what: str, made: Release, responses: list[TimedResponse], spent: list[float], elapsed: float
) -> list[BenchmarkRow]:
    """Return CPU by shard, and latencies of forwarded requests beside those at the owner."""
    here, there = made.owned(responses, here=True), made.owned(responses, here=False)
    rows = [
        BenchmarkRow(f"{what}: shard {number}, share of a core", "share", each / elapsed, bar=0.5)
        for number, each in enumerate(spent)
    ]
    rows.append(
        BenchmarkRow(
            f"{what}: CPU of a response, all shards", "ms", 1000 * sum(spent) / len(responses)
        )
    )
    for level, name in ((0.5, "p50"), (0.99, "p99")):
        rows.append(
            BenchmarkRow(f"{what}: forwarded responses, {name}", "ms", quantile(there, level), "owned",
                quantile(here, level))
        )  # fmt: skip
    rows += [
        BenchmarkRow(f"{what}: share of the responses that were forwarded", "share", len(there) / len(responses)),
        BenchmarkRow(f"{what}: owner did not respond", "responses", sum(a.reason == "Unreachable" for a in responses),
            bar=0.0),
    ]  # fmt: skip
    return rows


async def forwarding_rows(
    what: str, made: Release, served: list[TimedResponse], response_ms: float
) -> list[BenchmarkRow]:
    """Return the cost of cached responses at the owner and at another shard, in turns.

    `response_ms`: CPU of one response, in ms.
    """
    cpu: dict[bool, list[float]] = {True: [], False: []}
    responses: dict[bool, list[TimedResponse]] = {True: [], False: []}
    # A series without data is read again each second: that would be a read, not a cached response.
    series = sorted({each.series_number for each in served if each.reason not in NO_FORECAST})[
        :ROUND
    ]
    for _ in range(ROUNDS):
        for series_number in series:  # both then find the same cached responses
            await made.clients.query(series_number, made.owner(series_number))
        for here in (True, False):
            before = sum(made.cpu())
            for series_number in series:
                shard = (made.owner(series_number) + (not here)) % len(made.pids)
                responses[here].append(await made.clients.query(series_number, shard))
            cpu[here].append(1000 * (sum(made.cpu()) - before) / len(series))
    owned, forwarded = statistics.median(cpu[True]), statistics.median(cpu[False])
    rows = [
        BenchmarkRow(f"{what}: cached response, forwarded", "ms CPU", forwarded, "owned", owned),
        BenchmarkRow(f"{what}: forwarding to the owner and back", "ms CPU", forwarded - owned, "a response",
            response_ms, bar=1.0),
    ]  # fmt: skip
    for level, name in ((0.5, "p50"), (0.99, "p99")):
        rows.append(
            BenchmarkRow(f"{what}: cached response, forwarded, {name}", "ms", quantile(responses[False], level),
                "owned", quantile(responses[True], level))
        )  # fmt: skip
    return rows

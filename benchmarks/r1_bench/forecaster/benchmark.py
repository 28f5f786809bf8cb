"""Cost of one forecaster with 1,000 series of 14 days in steps of 1 min.

    R1_TRACES=FOLDER python -m r1_bench.forecaster [--count 1000] [--minutes 3] [--models A,B]
    R1_TRACES=FOLDER python -m r1_bench.forecaster --shards 2 --count 2000

A real `r1-forecaster` process reads a substitute for Prometheus (`forecaster_backfill`: recorded days,
shifted, scaled and with seeded noise). The load is that of one operator: each series about once a
minute, at most four requests at a time. Measurements:

- *first forecasts*: CPU time from the first request until every series has a forecast of the models
  that need no training. Nothing survives a restart, so a restart costs this again;
- *memory*: RSS of the service, and the share of one series;
- *a minute of requests*: CPU time and latency while a worker process trains;
- *fits*: CPU time of each learned model on one series, and its size. The bar is 60 s of one core for
  all models of a series;
- *all series* (simulated): the code of the training queue with the measured fit times: time until
  every series was fitted once, share of a core for refits, age of the oldest fit on the fourth day.

With `--shards` several forecasters share the series; `forecaster_shards` lists the measurements.

CPU times are comparable on a busy machine; latencies and wall times are not. Rows go to
`out/bench-forecaster.json` (`bench-forecaster-shards.json`); progress goes to stderr. A thousand series
take about 10 min of CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import pickle
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from r1_bench.forecaster.backfill import STEP, RecordedHistory
from r1_bench.forecaster.requests import (
    HISTORY,
    ForecasterClients,
    first_forecasts,
    minutes_of_requests,
    quantile,
    request_body,
)
from r1_bench.forecaster.rounds import rounds
from r1_bench.forecaster.shards import measure_shards
from r1_bench.gateway.benchmark import cpu_seconds, free_port, process, rss_mb
from r1_bench.rows import BenchmarkRow, write
from r1_common.contracts.forecast_request import parse_forecast_request
from r1_forecasting.series.shape import shape_of
from r1_forecasting.training.fit import fit_one
from r1_forecasting.unavailable import ForecastUnavailable

SHARE = 0.25
FIT_BAR_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fit:
    """CPU time and size of one model that was fitted to one series."""

    model: str
    cpu_seconds: float
    kilobytes: float


def fit_here(model: str, folder: Path, series_number: int) -> Fit:
    """Fit one model to 14 days of a series, in its own process."""
    os.environ["OMP_NUM_THREADS"] = "1"
    now = int(time.time()) // STEP
    series = RecordedHistory.of(folder).series(series_number, now - HISTORY // STEP, now)
    outcome = fit_one(model, series, shape_of(parse_forecast_request(request_body(series_number))))
    match outcome.result:
        case ForecastUnavailable(message=cause):
            raise RuntimeError(f"{model} could not be fitted: {cause}")
    return Fit(model, outcome.cpu_seconds, len(pickle.dumps(outcome.result)) / 1024)


def fits(models: list[str], folder: Path) -> list[Fit]:
    """Fit each model once, one after another."""
    fitted = []
    for model in models:
        print(f"fitting {model} ...", file=sys.stderr, flush=True)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            fitted.append(pool.submit(fit_here, model, folder, 1).result())
    return fitted


def workers(pid: int) -> list[int]:
    """Return the pids of the child processes: the training processes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


async def measure(folder: Path, count: int, minutes: float, models: str) -> list[BenchmarkRow]:
    """Measure one forecaster from its start until it has served all series for `minutes`."""
    rows = []
    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r1-forecaster-")))
        history_port, port = free_port(), free_port()
        command = [sys.executable, "-m", "r1_bench.forecaster.backfill", f"--traces={folder}"]
        stack.enter_context(
            process([*command, f"--port={history_port}"], None, history_port, logs / "history.log")
        )
        command = [
            sys.executable, "-m", "r1_forecasting", "--host=127.0.0.1", f"--port={port}",
            f"--models={models}", f"--prometheus-url=http://127.0.0.1:{history_port}",
            f"--training-share={SHARE}", "--log-level=warning",
        ]  # fmt: skip
        pid = stack.enter_context(process(command, None, port, logs / "forecaster.log"))
        alone, started, wall = rss_mb(pid), cpu_seconds(pid), time.monotonic()
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=timeout) as session:
            clients = ForecasterClients([session])
            await first_forecasts(clients, count)
            spent, elapsed = cpu_seconds(pid) - started, time.monotonic() - wall
            known = rss_mb(pid)
            what = f"{count:,} series"
            rows += [
                BenchmarkRow(
                    f"{what}: first forecasts (a restart costs them again)", "s CPU", spent
                ),
                BenchmarkRow(f"{what}: first forecasts, wall time", "s", elapsed),
                BenchmarkRow("memory of an empty service", "MB", alone),
                BenchmarkRow(f"{what}: memory without learned models", "MB", known),
                BenchmarkRow(
                    "memory per series, without learned models",
                    "KB",
                    (known - alone) / count * 1024,
                ),
            ]
            print(f"serving for {minutes:g} minutes ...", file=sys.stderr, flush=True)
            before, wall = cpu_seconds(pid), time.monotonic()
            trained = sum(cpu_seconds(child) for child in workers(pid))
            took = await minutes_of_requests(clients, count, minutes)
            elapsed = time.monotonic() - wall
            trainer = sum(cpu_seconds(child) for child in workers(pid)) - trained
            spent = cpu_seconds(pid) - before
            async with session.get("/metrics") as response:
                shown = await response.text()
        worker = sum(rss_mb(child) for child in workers(pid))
        done = [float(n) for n in re.findall(r"r1_forecast_fit_seconds_count\{.*\} (\S+)", shown)]
        rows += [
            BenchmarkRow(f"{what}: responses while training, p50", "ms", quantile(took, 0.5)),
            BenchmarkRow(f"{what}: responses while training, p99", "ms", quantile(took, 0.99)),
            BenchmarkRow(
                f"{what}: CPU of a response, everything included", "ms", 1000 * spent / len(took)
            ),
            BenchmarkRow(f"{what}: share of a core, service", "share", spent / elapsed, bar=0.5),
            BenchmarkRow(f"{what}: share of a core, training process", "share", trainer / elapsed),
            BenchmarkRow(f"{what}: fits in this time", "fits", sum(done)),
            BenchmarkRow(f"{what}: memory at the end", "MB", rss_mb(pid)),
            BenchmarkRow("memory of the training process", "MB", worker),
        ]
    return rows


def fit_rows(fitted: list[Fit], count: int) -> list[BenchmarkRow]:
    """Return the cost of the fits, and the simulated training of all series."""
    total = sum(fit.cpu_seconds for fit in fitted)
    rows = [BenchmarkRow(f"fit of {fit.model}", "s CPU", fit.cpu_seconds) for fit in fitted]
    rows.append(BenchmarkRow("fits of one series, all models", "s CPU", total, bar=FIT_BAR_SECONDS))
    rows += [BenchmarkRow(f"{fit.model} of one series", "KB", fit.kilobytes) for fit in fitted]
    simulated = rounds(count, total, SHARE, days=4.0)
    rows += [
        BenchmarkRow(f"{count:,} series: all fitted once after (simulated)", "h", simulated.all_fitted / 3600),
        BenchmarkRow(
            f"{count:,} series: share of a core, refits (simulated)", "share", simulated.refit_share,
            bar=SHARE * 1.01,
        ),
        BenchmarkRow(f"{count:,} series: oldest fit (simulated)", "h", simulated.oldest_fit / 3600),
        BenchmarkRow("busiest minute of the hour relative to the mean (simulated)", "ratio", simulated.busiest_minute),
    ]  # fmt: skip
    return rows


def main() -> int:
    """Measure and write the rows; returns the exit code, 2 without R1_TRACES."""
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.forecaster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=1000, help="series (default 1000)")
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="minutes of requests (default 3)"
    )
    parser.add_argument("--models", default="lightgbm,lstm,prophet", help="learned models")
    parser.add_argument("--shards", type=int, default=1, help="forecasters (default 1)")
    given = parser.parse_args()
    if given.count < 1 or given.minutes <= 0 or given.shards < 1:
        parser.error("--count, --minutes and --shards must be above 0")
    named = os.environ.get("R1_TRACES")
    if not named:
        print("R1_TRACES is not set: set it to the folder of the traces", file=sys.stderr)
        return 2
    folder = Path(named)
    models = [name for name in given.models.split(",") if name]
    if given.shards > 1:
        shards = measure_shards(folder, given.count, given.minutes, given.models, given.shards)
        rows = asyncio.run(shards)
        write("forecaster-shards", rows)
    else:
        rows = asyncio.run(measure(folder, given.count, given.minutes, given.models))
        rows += fit_rows(fits(models, folder), given.count)
        write("forecaster", rows)
    return 0 if all(row.ok is not False for row in rows) else 1

"""One forecaster with 1,000 subjects of 14 days in steps of a minute.

    R1_TRACES=FOLDER python -m r1_bench.forecaster [--count 1000] [--minutes 3] [--models A,B]
    R1_TRACES=FOLDER python -m r1_bench.forecaster --shards 2 --count 2000

A real `r1-forecaster` process beside a stand-in for Prometheus (`forecaster_past`: recorded days,
shifted, scaled and with noise by seed). It is asked as one operator asks: each subject about once
a minute, four questions at a time. What is measured:

- *first answers*: from the first question until every subject has a forecast of the models that
  need no training, as CPU time; nothing is kept over a restart, so a restart costs this again;
- *memory*: RSS of the service, and what a subject adds to it;
- *a minute's answers*: CPU time and latency while a worker trains beside them;
- *fits*: CPU time of each learned model on one subject, and its size; the bar is 60 s of one core
  for all models of a series;
- *the round of all*: the queue's own code played with that cost: how long until every subject was
  fitted once, what refits take of a core, and how old the oldest fit is in the fourth day (played,
  not measured).

With `--shards` several forecasters share the subjects, and `forecaster_shards` says what is measured.

CPU time stays put on a busy machine; latencies and wall time do not. Rows go to
`out/bench-forecaster.json` (`bench-forecaster-shards.json`); progress is on stderr. A thousand subjects
take some 10 minutes of CPU.
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

from r1_bench.forecaster.backfill import STEP, RecordedPast
from r1_bench.forecaster.requests import (
    HISTORY,
    Doors,
    first_answers,
    minutes_of_answers,
    quantile,
    question,
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
    """What one model cost on one subject."""

    model: str
    cpu_seconds: float
    kilobytes: float


def fit_here(model: str, folder: Path, subject: int) -> Fit:
    """Fit one model on a subject's fortnight; runs in a process of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"
    now = int(time.time()) // STEP
    series = RecordedPast.of(folder).series(subject, now - HISTORY // STEP, now)
    outcome = fit_one(model, series, shape_of(parse_forecast_request(question(subject))))
    match outcome.result:
        case ForecastUnavailable(message=said):
            raise RuntimeError(f"{model} could not be fitted: {said}")
    return Fit(model, outcome.cpu_seconds, len(pickle.dumps(outcome.result)) / 1024)


def fits(models: list[str], folder: Path) -> list[Fit]:
    """Each model once, one after another."""
    found = []
    for model in models:
        print(f"fitting {model} ...", file=sys.stderr, flush=True)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            found.append(pool.submit(fit_here, model, folder, 1).result())
    return found


def workers(pid: int) -> list[int]:
    """Child processes of a process: the trainer's."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


async def measure(folder: Path, count: int, minutes: float, models: str) -> list[BenchmarkRow]:
    """One forecaster from its start to `minutes` of serving all subjects."""
    rows = []
    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r1-forecaster-")))
        past, port = free_port(), free_port()
        command = [sys.executable, "-m", "r1_bench.forecaster.backfill", f"--traces={folder}"]
        stack.enter_context(process([*command, f"--port={past}"], None, past, logs / "past.log"))
        command = [
            sys.executable, "-m", "r1_forecasting", "--host=127.0.0.1", f"--port={port}",
            f"--models={models}", f"--prometheus-url=http://127.0.0.1:{past}",
            f"--training-share={SHARE}", "--log-level=warning",
        ]  # fmt: skip
        pid = stack.enter_context(process(command, None, port, logs / "forecaster.log"))
        alone, started, wall = rss_mb(pid), cpu_seconds(pid), time.monotonic()
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=timeout) as session:
            doors = Doors([session])
            await first_answers(doors, count)
            spent, elapsed = cpu_seconds(pid) - started, time.monotonic() - wall
            known = rss_mb(pid)
            what = f"{count:,} subjects"
            rows += [
                BenchmarkRow(f"{what}: first answers (a restart costs them again)", "s CPU", spent),
                BenchmarkRow(f"{what}: first answers, wall time", "s", elapsed),
                BenchmarkRow("memory of an empty service", "MB", alone),
                BenchmarkRow(f"{what}: memory without learned models", "MB", known),
                BenchmarkRow(
                    "a subject adds, without learned models", "KB", (known - alone) / count * 1024
                ),
            ]
            print(f"serving for {minutes:g} minutes ...", file=sys.stderr, flush=True)
            before, wall = cpu_seconds(pid), time.monotonic()
            trained = sum(cpu_seconds(child) for child in workers(pid))
            took = await minutes_of_answers(doors, count, minutes)
            elapsed = time.monotonic() - wall
            trainer = sum(cpu_seconds(child) for child in workers(pid)) - trained
            spent = cpu_seconds(pid) - before
            async with session.get("/metrics") as reply:
                shown = await reply.text()
        worker = sum(rss_mb(child) for child in workers(pid))
        done = [float(n) for n in re.findall(r"r1_forecast_fit_seconds_count\{.*\} (\S+)", shown)]
        rows += [
            BenchmarkRow(f"{what}: answers while training, p50", "ms", quantile(took, 0.5)),
            BenchmarkRow(f"{what}: answers while training, p99", "ms", quantile(took, 0.99)),
            BenchmarkRow(
                f"{what}: CPU of an answer, everything included", "ms", 1000 * spent / len(took)
            ),
            BenchmarkRow(f"{what}: the service takes of a core", "share", spent / elapsed, bar=0.5),
            BenchmarkRow(f"{what}: the trainer takes of a core", "share", trainer / elapsed),
            BenchmarkRow(f"{what}: fits done meanwhile", "fits", sum(done)),
            BenchmarkRow(f"{what}: memory at the end", "MB", rss_mb(pid)),
            BenchmarkRow("memory of the training process", "MB", worker),
        ]
    return rows


def fit_rows(found: list[Fit], count: int) -> list[BenchmarkRow]:
    """Cost of fits, and the round of all subjects played with it."""
    total = sum(fit.cpu_seconds for fit in found)
    rows = [BenchmarkRow(f"fit of {fit.model}", "s CPU", fit.cpu_seconds) for fit in found]
    rows.append(BenchmarkRow("fits of one series, all models", "s CPU", total, bar=FIT_BAR_SECONDS))
    rows += [BenchmarkRow(f"{fit.model} of one subject", "KB", fit.kilobytes) for fit in found]
    simulated = rounds(count, total, SHARE, days=4.0)
    rows += [
        BenchmarkRow(f"{count:,} subjects: all fitted once after (simulated)", "h", simulated.all_fitted / 3600),
        BenchmarkRow(
            f"{count:,} subjects: refits take of a core (simulated)", "share", simulated.refit_share,
            bar=SHARE * 1.01,
        ),
        BenchmarkRow(f"{count:,} subjects: oldest fit (simulated)", "h", simulated.oldest_fit / 3600),
        BenchmarkRow("busiest minute of the hour by the mean (simulated)", "ratio", simulated.busiest_minute),
    ]  # fmt: skip
    return rows


def main() -> int:
    """Measure and write rows; 2 where R1_TRACES is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.forecaster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=1000, help="subjects (default 1000)")
    parser.add_argument("--minutes", type=float, default=3.0, help="of serving (default 3)")
    parser.add_argument("--models", default="lightgbm,lstm,prophet", help="learned models")
    parser.add_argument("--shards", type=int, default=1, help="forecasters (default 1)")
    given = parser.parse_args()
    if given.count < 1 or given.minutes <= 0 or given.shards < 1:
        parser.error("--count, --minutes and --shards need to be above 0")
    named = os.environ.get("R1_TRACES")
    if not named:
        print("R1_TRACES is not set: it names the folder with the traces", file=sys.stderr)
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


if __name__ == "__main__":
    sys.exit(main())

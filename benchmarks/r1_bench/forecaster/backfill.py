"""Substitute for Prometheus with a thousand series: recorded days, shifted and scaled.

`python -m r1_bench.forecaster.backfill --traces FOLDER --port PORT` serves only `query_range`,
for queries `recorded{series="N"}`. To fill a real Prometheus with 20 million samples would take
longer than the benchmark. The value of a minute is deterministic.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiohttp import web

from r1_evaluation.forecast_bench.series import series_of
from r1_evaluation.traces.readers import read_trace
from r1_forecasting.arrays import FloatArray
from r1_forecasting.series.series import Series

STEP = 60
FILES = (
    "servegen_qwen_m-large_1min_semi.parquet",
    "servegen_qwen_m-small_1min_semi.parquet",
    "wc98_may11-jun20_1min.parquet",
)
NOISE = 0.05
"""Standard deviation of each minute's factor."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedHistory:
    """Requests per second by minute of several services; NaN where nothing was collected."""

    services: tuple[FloatArray, ...]

    @classmethod
    def of(cls, folder: Path) -> RecordedHistory:
        """Read the traces with a value for each minute. Raises OSError, UnreadableTrace."""
        return cls(tuple(series_of(read_trace(folder / name)).values / 60 for name in FILES))

    def series(self, series_number: int, first: int, last: int) -> Series:
        """Minutes `first` to `last` (both included, counted since 1970) of one series."""
        recorded = self.services[series_number % len(self.services)]
        rng = np.random.default_rng(series_number)
        scale, shift = 10 ** rng.uniform(-1, 1), int(rng.integers(0, len(recorded)))
        factors = 1 + NOISE * rng.standard_normal(len(recorded))
        minutes = np.arange(first, last + 1) % len(recorded)
        values = scale * recorded[(minutes + shift) % len(recorded)] * factors[minutes]
        return Series(float(first * STEP), float(STEP), np.maximum(values, 0.0))


def as_matrix(series: Series) -> bytes:
    """Return a response of `/api/v1/query_range`; gaps are left out, as by Prometheus."""
    times = series.start + series.step * np.arange(len(series))
    present = ~np.isnan(series.values)
    pairs = zip(times[present].tolist(), series.values[present].tolist(), strict=True)
    values = ",".join(f'[{at:.0f},"{value:.6g}"]' for at, value in pairs)
    result = f'{{"metric":{{}},"values":[{values}]}}' if values else ""
    head = '{"status":"success","data":{"resultType":"matrix","result":['
    return f"{head}{result}]}}}}".encode()


def application(history: RecordedHistory) -> web.Application:
    """Return the HTTP application: `query_range` and `/-/ready`."""

    async def query_range(request: web.Request) -> web.Response:
        match = re.fullmatch(r'recorded\{series="(\d+)"\}', request.query["query"])
        if match is None or float(request.query["step"]) != STEP:
            return web.json_response({"status": "error", "error": "not recorded"}, status=400)
        first, last = (round(float(request.query[end]) / STEP) for end in ("start", "end"))
        return web.Response(
            body=as_matrix(history.series(int(match[1]), first, last)),
            content_type="application/json",
        )

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready\n")

    app = web.Application()
    app.add_routes([web.get("/api/v1/query_range", query_range), web.get("/-/ready", ready)])
    return app


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.forecaster.backfill", description=__doc__
    )
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    app = application(RecordedHistory.of(given.traces))
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, print=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())

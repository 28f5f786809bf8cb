"""The runtime beside `transformers.generate`, and where a model pod's start-up time goes.

`python -m r1_bench.runtime [--rounds 3] [--tokens 64] [--model bundled:demo]`

*Tokens per second* are output tokens over the whole time of a batch, prefill included, greedy, the
same prompts, weights, dtype and thread count on both sides, in one process and taken in turns:
ours, theirs, ours, theirs. The figures are medians. Ours goes through scheduler and paged cache, as
in the server, without HTTP and text.

*Start-up* is the log line of a fresh server process: seconds to a port that answers `/health`, to
torch imported, to weights loaded, to ready. What was read from disk before is warm.
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
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend
from r1_runtime.backends.cpu.library import CacheType, Codec
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.runner import Runner
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.engine.sequence import Finish, Sequence
from r1_runtime.server.options import cpu_limit, resolve_model

PROMPT_TOKENS = 64
BLOCKS = 256
PEER = "transformers.generate"
# What a lean engine owes a general library on a small model; the sparse work is measured elsewhere.
BARS = {1: 1.5, 8: 1.5}


def prompts(count: int, vocabulary: int) -> list[list[int]]:
    """Random prompts, the same for both sides."""
    generator = torch.Generator().manual_seed(count)
    drawn = torch.randint(8, vocabulary, (count, PROMPT_TOKENS), generator=generator)
    return [row.tolist() for row in drawn]


def ours(runner: Runner, wanted: list[list[int]], tokens: int) -> list[list[int]]:
    """Greedy outputs of all prompts by continuous batching."""
    pool = BlockPool(BLOCKS, runner.block_size)
    scheduler = Scheduler(pool, max_sequences=8, max_step_tokens=1024)
    greedy = SamplingParams(temperature=0)
    sequences = [
        Sequence(str(index), list(prompt), len(prompt), greedy, 0.0)
        for index, prompt in enumerate(wanted)
    ]
    for sequence in sequences:
        scheduler.add(sequence)
    while not scheduler.idle:
        step = scheduler.schedule(0.0)
        rows = runner.execute(step)
        scheduler.advance(step)
        for row in rows:
            if row.token is None:
                raise SystemExit("the model computed logits that are not finite")
            sequence = row.sequence
            sequence.tokens.append(row.token)
            if sequence.generated == tokens:
                scheduler.finish(sequence, Finish.LENGTH)
    return [sequence.tokens[PROMPT_TOKENS:] for sequence in sequences]


def theirs(model: Any, wanted: list[list[int]], tokens: int) -> list[list[int]]:
    """The same by transformers."""
    batch = torch.tensor(wanted)
    out = model.generate(
        batch,
        attention_mask=torch.ones_like(batch),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,  # as ours here, which has no end either
        pad_token_id=0,
    )
    return [row.tolist() for row in out[:, PROMPT_TOKENS:]]


def speed(work: Callable[[], object], tokens: int) -> float:
    """Output tokens per second of one call."""
    begun = time.perf_counter()
    work()
    return tokens / (time.perf_counter() - begun)


def decoding_rows(folder: Path, dtype: str, rounds: int, tokens: int) -> list[BenchmarkRow]:
    """Batch 1 and batch 8 of one dtype, taken in turns with the peer."""
    from transformers import DeepseekV3ForCausalLM

    checkpoint = open_checkpoint(folder)
    codec, cache_type = Codec[dtype.upper()], CacheType[dtype.upper()]
    backend = CpuBackend(
        checkpoint,
        codecs=Codecs(codec, codec, codec, codec),
        cache_type=cache_type,
        blocks=BLOCKS,
        block_size=16,
        threads=cpu_limit(),
    )
    runner = Runner(backend, 16)
    peer = DeepseekV3ForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    rows = []
    for batch, bar in BARS.items():
        wanted = prompts(batch, checkpoint.description.vocab_size)
        same = ours(runner, wanted, tokens) == theirs(peer, wanted, tokens)  # and a warm-up
        if dtype == "float32" and not same:
            raise SystemExit("the two sides do not write the same tokens: the speeds mean nothing")
        measured = [
            (
                speed(partial(ours, runner, wanted, tokens), batch * tokens),
                speed(partial(theirs, peer, wanted, tokens), batch * tokens),
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
    """The phases that one server logs, in seconds."""
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
    raise SystemExit("the server ended before it was ready")


def run(model: str = "bundled:demo", rounds: int = 3, tokens: int = 64) -> list[BenchmarkRow]:
    """All rows, also written to `out/bench-runtime.json`."""
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled:demo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="output tokens per request")
    options = parser.parse_args()
    run(options.model, options.rounds, options.tokens)


if __name__ == "__main__":
    main()

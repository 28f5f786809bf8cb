"""Perplexity on a text, beside llama.cpp with the same file.

llama.cpp's server returns no log-probabilities of a prompt. Each token is therefore requested on its own:
one output token after the text before it, with a bias that leaves the text's token alone. The probability
that the server reports is that of the logits without the bias.
"""

from __future__ import annotations

import json
import math
import os
import urllib.request
from pathlib import Path

import numpy as np

from r1_bench.rows import BenchmarkRow
from r1_bench.runtime.measurements.http import PEER
from r1_bench.runtime.servers import Server, llama_cpp, running
from r1_cluster.control_plane.controlplane import free_ports
from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.backends.cpu.library import CacheType
from r1_runtime.backends.sampling_plan import greedy_plan
from r1_runtime.backends.step_plan import StepPlan
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.tokenizer.open import open_tokenizer

_BLOCK = 16
_BAR_PERCENT = 0.1


def our_logprobs(path: Path, tokens: list[int]) -> list[float]:
    """Log-probability of each token after the first, of the native backend."""
    count = len(tokens) - 1
    blocks = -(-count // _BLOCK)
    backend = CpuBackend(
        open_checkpoint(path),
        cache_type=CacheType.FLOAT32,
        blocks=blocks,
        block_size=_BLOCK,
    )

    def ints(values: object) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        return np.array(values, np.int32)

    sampling = greedy_plan(count)
    sampling.targets[:] = tokens[1:]
    plan = StepPlan(
        tokens=ints(tokens[:-1]),
        positions=ints(range(count)),
        query_starts=ints([0, count]),
        context_lengths=ints([count]),
        block_starts=ints([0, blocks]),
        blocks=ints(range(blocks)),
        output_rows=ints(range(count)),
        sampling=sampling,
    )
    return [float(value) for value in backend.step(plan).logprobs]


def _peer_logprob(server: Server, tokens: list[int], token: int) -> float:
    body = {
        "prompt": tokens,
        "n_predict": 1,
        "n_probs": 1,
        "temperature": 0,
        "cache_prompt": True,
        "ignore_eos": False,
        "logit_bias": [[token, 1000.0]],
    }
    request = urllib.request.Request(  # noqa: S310  (the server of this process)
        server.url + "/completion",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310
        answer = json.load(response)
    (entry,) = answer["completion_probabilities"]
    if entry["id"] != token:
        raise SystemExit(f"llama.cpp took token {entry['id']} instead of {token}")
    return float(entry["logprob"])


def perplexity_rows(label: str, path: Path, text: str, count: int) -> list[BenchmarkRow]:
    """Perplexity of the first `count` tokens of a text, and its difference to llama.cpp's in percent."""
    checkpoint = open_checkpoint(path)
    tokenizer = open_tokenizer(path, checkpoint.description.vocab_size, ())
    tokens = list(tokenizer.encode(text, 10**6))[:count]
    mine = our_logprobs(path, tokens)
    (port,) = free_ports(1)
    cpus = {min(os.sched_getaffinity(0))}
    command = llama_cpp(str(path), 1, port, count + 64, slots=1)
    with running(PEER, command, port, cpus) as server:
        other = [_peer_logprob(server, tokens[:at], tokens[at]) for at in range(1, len(tokens))]
    ours, peers = (math.exp(-sum(each) / len(each)) for each in (mine, other))
    name = f"{label}, perplexity of {len(tokens)} tokens of README.md"
    return [
        BenchmarkRow(name, "", ours, PEER, peers),
        BenchmarkRow(f"{name}: difference", "%", 100 * abs(ours / peers - 1), bar=_BAR_PERCENT),
    ]

"""Attention alone on a long context: sparse against dense on the same cache, and seats of packed caches.

`python -m r1_bench.sparse_attention [--context 32768]`. One layer with random weights; the feed-forward is
small, and the step of a context of one token is subtracted. Times are thread CPU seconds of the native
step on one thread, dense and sparse in turns, the least of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from r1_bench.rows import BenchmarkRow, write
from r1_runtime.architecture.description import (
    DenseFeedForward,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    ModelDescription,
    Rope,
)
from r1_runtime.architecture.weight_names import weight_shapes
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend
from r1_runtime.backends.cpu.cache_size import block_bytes
from r1_runtime.backends.cpu.library import CacheType, Codec
from r1_runtime.backends.step_plan import StepPlan, sequence_plan
from r1_runtime.checkpoint.source import Encoding, StoredTensor
from r1_runtime.sparsity.policy import DynamicSparseAttention

_BLOCK, _CHUNK, _ROUNDS = 16, 256, 7
_DENSE = DynamicSparseAttention(from_context=1 << 30)
_HALVED = DynamicSparseAttention(adaptive=True, drop_range=(0.5, 0.5))
POLICIES: Mapping[str, DynamicSparseAttention] = {
    "20 % of the units": DynamicSparseAttention(),
    "14 %": replace(_HALVED, drop_range=(0.3, 0.3)),
    "10 %": _HALVED,
    "6 %": replace(_HALVED, drop_range=(0.7, 0.7)),
    "10 % and estimates": replace(_HALVED, correction=True),
}


def _rope(dim: int, *, interleaved: bool = False) -> Rope:
    frequencies = 10000.0 ** -(np.arange(0, dim, 2, dtype=np.float32) / dim)
    return Rope(dim, interleaved, tuple(map(float, frequencies)))


ATTENTIONS: Mapping[str, GroupedQueryAttention | LatentAttention] = {
    "9 heads on 3 of 64": GroupedQueryAttention(9, 3, 64, _rope(64), 0.125),
    "latent, 16 heads, rank 512": LatentAttention(
        16, None, 512, 128, 128, _rope(64, interleaved=True), 192**-0.5
    ),
}


class RandomWeights:
    """Random weights of a description, as a `Checkpoint`."""

    def __init__(self, description: ModelDescription) -> None:
        self.description = description
        random = np.random.default_rng(0)
        self._weights = {
            name: random.standard_normal(shape, np.float32) / np.float32(shape[-1] ** 0.5)
            for name, shape in sorted(weight_shapes(description).items())
        }

    def names(self) -> frozenset[str]:
        return frozenset(self._weights)

    def tensor(self, name: str) -> StoredTensor:
        values = self._weights[name]
        return StoredTensor(name, values.shape, Encoding.F32, values.view(np.uint8))

    def release(self, tensor: StoredTensor) -> None:
        """Nothing is mapped."""


def one_layer(
    attention: GroupedQueryAttention | LatentAttention, positions: int
) -> ModelDescription:
    """A network that is almost attention alone."""
    return ModelDescription(
        family="benchmark",
        vocab_size=128,
        hidden_size=128,
        norm_eps=1e-5,
        layers=(Layer(attention, DenseFeedForward(64)),),
        tied_head=True,
        max_positions=positions,
        bos_token_id=None,
        eos_token_ids=(0,),
    )


class LongContext:
    """A backend whose cache holds `context` tokens."""

    def __init__(
        self, attention: GroupedQueryAttention | LatentAttention, context: int, cache: CacheType
    ) -> None:
        self.context = context
        self._tokens = np.random.default_rng(1).integers(1, 128, context + _BLOCK).astype(np.int32)
        self._backend = CpuBackend(
            RandomWeights(one_layer(attention, context + _BLOCK)),
            codecs=Codecs(*[Codec.FLOAT16] * 4),
            cache_type=cache,
            blocks=context // _BLOCK + 1,
            block_size=_BLOCK,
            threads=1,
            sparsity=DynamicSparseAttention(prompts=True, correction=True, from_context=1024),
        )
        for start in range(0, context, _CHUNK):
            self._backend.step(self._plan(start, start + _CHUNK, prompt=True))

    def decode_seconds(self, policies: Mapping[str, DynamicSparseAttention]) -> dict[str, float]:
        """Seconds of the attention of one generated token."""
        long = self._plan(self.context, self.context + 1, prompt=False)
        return self._seconds(policies, long, self._plan(0, 1, prompt=False), 3)

    def prefill_seconds(self, policies: Mapping[str, DynamicSparseAttention]) -> dict[str, float]:
        """Seconds of the attention of the last 256 tokens of a prompt."""
        start = self.context - _CHUNK
        prompts = {name: replace(each, prompts=True) for name, each in policies.items()}
        long = self._plan(start, self.context, prompt=True)
        return self._seconds(prompts, long, self._plan(0, _CHUNK, prompt=True), 1)

    def _seconds(
        self,
        policies: Mapping[str, DynamicSparseAttention],
        long: StepPlan,
        short: StepPlan,
        steps: int,
    ) -> dict[str, float]:
        least = dict.fromkeys(policies, float("inf"))
        rest = float("inf")
        for _ in range(_ROUNDS if steps > 1 else 3):
            for name, policy in policies.items():
                self._backend.set_sparsity(policy)
                if steps > 1:
                    self._backend.step(
                        long
                    )  # the first one finds other content in the processor's caches
                least[name] = min(least[name], self._measure(long, steps))
            self._backend.set_sparsity(_DENSE)
            rest = min(rest, self._measure(short, steps))
        return {name: seconds - rest for name, seconds in least.items()}

    def _measure(self, plan: StepPlan, steps: int) -> float:
        started = time.thread_time()
        for _ in range(steps):
            self._backend.step(plan)
        return (time.thread_time() - started) / steps

    def _plan(self, start: int, end: int, *, prompt: bool) -> StepPlan:
        return sequence_plan(self._tokens[start:end], start, 1, _BLOCK, end if prompt else 0)


def attention_rows(context: int) -> Iterator[BenchmarkRow]:
    """Dense against sparse, on a float16 cache."""
    for name, attention in ATTENTIONS.items():
        held = LongContext(attention, context, CacheType.FLOAT16)
        policies = {"dense": _DENSE, **POLICIES}
        for kind, measure, bar in (
            ("decode", held.decode_seconds, 4.0),
            ("prefill", held.prefill_seconds, 2.5),
        ):
            seconds = measure(policies)
            for policy in POLICIES:
                yield BenchmarkRow(
                    f"{name}: {kind} at {context}, {policy}",
                    "per CPU second",
                    1 / seconds[policy],
                    "dense",
                    1 / seconds["dense"],
                    bar if policy == "10 %" else None,
                    higher_is_better=True,
                )


def cache_rows(context: int) -> Iterator[BenchmarkRow]:
    """Dense decode on packed caches against float16, and tokens in the same memory."""
    for name, attention in ATTENTIONS.items():
        caches = (CacheType.FLOAT16, CacheType.INT8, CacheType.FLOAT8, CacheType.INT4)
        seconds = {
            cache: LongContext(attention, context, cache).decode_seconds({"dense": _DENSE})["dense"]
            for cache in caches
        }
        network = one_layer(attention, context)
        sizes = {cache: block_bytes(network, cache, _BLOCK) for cache in caches}
        for cache in caches[1:]:
            yield BenchmarkRow(
                f"{name}: dense decode at {context}, {cache.name.lower()} cache",
                "per CPU second",
                1 / seconds[cache],
                "float16",
                1 / seconds[CacheType.FLOAT16],
                higher_is_better=True,
            )
            yield BenchmarkRow(
                f"{name}: tokens per MiB, {cache.name.lower()} cache",
                "tokens",
                2**20 * _BLOCK / sizes[cache],
                "float16",
                2**20 * _BLOCK / sizes[CacheType.FLOAT16],
                3.5 if cache is CacheType.INT4 else None,
                higher_is_better=True,
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.sparse_attention", description=__doc__
    )
    parser.add_argument(
        "--context", type=int, default=32768, help="a multiple of 256, at least 8192"
    )
    context = parser.parse_args(arguments).context
    rows = [*attention_rows(context), *cache_rows(context)]
    write("sparse-attention", rows)
    return int(any(row.ok is False for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())

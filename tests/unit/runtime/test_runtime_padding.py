"""Padding in a decode step isolates the caches of different sequences."""

from __future__ import annotations

from pathlib import Path

import torch

from r1_runtime.engine.runner import Runner
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Chunk, Step
from r1_runtime.engine.sequence import Sequence
from r1_runtime.models.loader import load_model


def test_non_finite_values_in_another_sequence_s_cache_do_not_pass_the_padding(
    tiny_checkpoint: Path,
) -> None:
    runner = Runner(load_model(tiny_checkpoint, dtype=torch.float32), 8, block_size=4)
    runner.caches[:, :4] = torch.nan  # block 0 is of a sequence that is not in this step
    greedy = SamplingParams(temperature=0)
    short = Sequence("short", [5, 6], 2, greedy, 0.0, [1])
    long = Sequence("long", [5] * 11, 11, greedy, 0.0, [2, 3, 4])
    for sequence in (short, long):
        length = len(sequence.tokens) - 1
        runner.execute(Step((Chunk(sequence, 0, length),)))
    both = runner.execute(Step((Chunk(short, 1, 1), Chunk(long, 10, 1))))
    assert all(row.token is not None for row in both)
    alone = runner.execute(Step((Chunk(short, 1, 1),)))
    assert both[0] == alone[0]

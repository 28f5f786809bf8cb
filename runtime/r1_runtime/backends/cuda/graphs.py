"""CUDA graphs of decode steps at bucketed batch sizes.

A decode step launches hundreds of short kernels; their launches take longer than the kernels. A graph
replays them with one launch. A step uses the smallest bucket that holds it; the rows that fill the
bucket are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from r1_runtime.backends.cuda.step_arrays import DecodeArrays, StepArrays
from r1_runtime.backends.step_plan import StepPlan

Compute = Callable[[StepArrays], Tensor]
Replay = Callable[[], Tensor]
Capture = Callable[[Compute, StepArrays], Replay]

_WARM_UPS = 2  # the first run compiles kernels, which a capture must not


def buckets_up_to(most: int) -> tuple[int, ...]:
    """Batch sizes with a graph: 1, 2, 4, then multiples of 8 to 64, of 32 to 256, of 64 beyond."""
    sizes = [1, 2, 4, *range(8, 64, 8), *range(64, 256, 32), *range(256, most + 64, 64)]
    below = [size for size in sizes if size < most]
    return (*below, most)


class GraphCapture:
    """Records kernels as CUDA graphs that share their memory, because only one replays at a time."""

    def __init__(self) -> None:
        self._first: torch.cuda.CUDAGraph | None = None

    def __call__(self, compute: Compute, arrays: StepArrays) -> Replay:
        """Record the kernels of `compute`; a replay returns the same tensor each time."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                compute(arrays)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = None if self._first is None else self._first.pool()
        with torch.cuda.graph(graph, pool=pool):
            result = compute(arrays)
        self._first = self._first or graph

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def uncaptured(compute: Compute, arrays: StepArrays) -> Replay:
    """The same without a graph, for devices that have none."""
    return lambda: compute(arrays)


class DecodeGraphs:
    """Graphs by batch size, captured when a size is first used.

    Args:
        buckets: batch sizes with a graph.
        arrays_of: buffers for a batch size.
        compute: from the arrays of a step to its logits [rows, vocab].
        capture: how a graph is recorded.
    """

    def __init__(
        self,
        buckets: Iterable[int],
        arrays_of: Callable[[int], DecodeArrays],
        compute: Compute,
        capture: Capture,
    ) -> None:
        self._buckets = tuple(sorted(buckets))
        self._arrays_of = arrays_of
        self._compute = compute
        self._capture = capture
        self._graphs: dict[int, tuple[DecodeArrays, Replay]] = {}

    @property
    def captured_sizes(self) -> tuple[int, ...]:
        """Batch sizes whose graph exists, in the order of capture."""
        return tuple(self._graphs)

    def bucket(self, plan: StepPlan) -> int | None:
        """The batch size whose graph computes this step, or None: it is no decode, or too large."""
        rows = len(plan.tokens)
        if rows != len(plan.context_lengths):
            return None
        return next((size for size in self._buckets if size >= rows), None)

    def logits(self, plan: StepPlan, bucket: int) -> Tensor:
        """Logits [S, vocab] of the plan's output rows; valid until the next call."""
        if bucket not in self._graphs:
            arrays = self._arrays_of(bucket)
            self._graphs[bucket] = arrays, self._capture(self._compute, arrays.arrays)
        arrays, replay = self._graphs[bucket]
        arrays.write(plan)
        logits = replay()
        if len(plan.output_rows) == len(plan.tokens):
            return logits[: len(plan.tokens)]
        rows = torch.from_numpy(plan.output_rows).to(logits.device)
        return logits[rows.long()]

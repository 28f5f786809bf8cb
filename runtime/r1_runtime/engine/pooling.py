"""Pooled hidden states: one vector per prompt, collected over the steps that compute it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r1_runtime.engine.messages import SampledRow
from r1_runtime.engine.scheduler import Chunk, Step
from r1_runtime.engine.sequence import Pooling, Sequence


def hidden_rows(step: Step) -> list[int]:
    """Rows of a step whose hidden states are pooled, ascending."""
    rows: list[int] = []
    first = 0
    for chunk in step.chunks:
        count = _pooled_rows(chunk)
        rows += range(first + chunk.rows - count, first + chunk.rows)
        first += chunk.rows
    return rows


def _pooled_rows(chunk: Chunk) -> int:
    """Number of a chunk's last rows that are pooled."""
    if chunk.sequence.pooling is Pooling.MEAN:
        return chunk.rows
    return int(chunk.sequence.pooling is Pooling.LAST and chunk.samples)


class PooledStates:
    """Sums of hidden states of the sequences whose prompts are partly computed."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}

    def add(self, step: Step, hidden: NDArray[np.float32]) -> list[SampledRow]:
        """Add a step's hidden states [H, hidden]; return the vectors of completed prompts.

        A vector has length 1, as embeddings of OpenAI's API have. A sequence that starts again after
        a preemption starts its sum again.
        """
        finished: list[SampledRow] = []
        first = 0
        for chunk in step.chunks:
            count, sequence = _pooled_rows(chunk), chunk.sequence
            if not count:
                continue
            total = hidden[first : first + count].sum(axis=0, dtype=np.float64)
            first += count
            if sequence.pooling is Pooling.MEAN and chunk.start:
                total = total + self._sums[sequence.id]
            if chunk.samples:
                self.drop(sequence)
                finished.append(SampledRow(sequence, None, embedding=unit(total)))
            else:
                self._sums[sequence.id] = total
        return finished

    def drop(self, sequence: Sequence) -> None:
        """Forget a sequence."""
        self._sums.pop(sequence.id, None)


def unit(vector: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector [n] divided by its Euclidean length; unchanged where that is zero."""
    length = float(np.linalg.norm(vector))
    return (vector / length if length else vector).astype(np.float32)

"""A `StepPlan` as bytes, for the ranks that compute and do not sample.

The sampling parameters stay with the leader, which samples.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from r1_runtime.backends.sampling_plan import greedy_plan
from r1_runtime.backends.step_plan import StepPlan

_FIELDS = (
    "tokens",
    "positions",
    "query_starts",
    "context_lengths",
    "block_starts",
    "blocks",
    "output_rows",
    "hidden_rows",
)


def encode_plan(plan: StepPlan) -> bytes:
    """The lengths of the arrays, then the arrays, all int32 in native order."""
    arrays = [getattr(plan, name) for name in _FIELDS]
    lengths = np.array([len(array) for array in arrays], np.int32)
    return np.concatenate([lengths, *arrays]).astype(np.int32).tobytes()


def decode_plan(payload: bytes) -> StepPlan:
    """The plan of `encode_plan`, with a greedy sampling plan."""
    values = np.frombuffer(payload, np.int32)
    count = len(_FIELDS)
    ends = list(accumulate(values[:count].tolist(), initial=count))
    arrays = {
        name: values[begin:end] for name, begin, end in zip(_FIELDS, ends, ends[1:], strict=False)
    }
    return StepPlan(**arrays, sampling=greedy_plan(len(arrays["output_rows"])))

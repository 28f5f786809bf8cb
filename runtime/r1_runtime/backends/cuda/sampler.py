"""From logits on the device and a `SamplingPlan` to a `StepResult` on the host."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r1_runtime.backends.cuda.kernels.sampling import RowParameters, boundaries, sample
from r1_runtime.backends.reference.sampler import sample_rows
from r1_runtime.backends.sampling_plan import SamplingPlan
from r1_runtime.backends.step_plan import StepResult


def sample_on_device(logits: Tensor, plan: SamplingPlan) -> StepResult:
    """Sample or score the rows of `logits` [S, vocab], float32.

    A plan with penalties, biases or masks is sampled by the specification on the host.
    """
    if len(plan.adjust_tokens) or (plan.masks >= 0).any():
        return sample_rows(logits.cpu().numpy(), plan)
    parameters = _row_parameters(logits, plan)
    tokens, logprobs = sample(logits, parameters)
    tops = _most_probable(logits, plan)
    host_tokens, host_logprobs = tokens.cpu().numpy(), logprobs.cpu().numpy()
    empty = (np.empty(0, np.int32), np.empty(0, np.float32))
    chosen = [top if token >= 0 else empty for top, token in zip(tops, host_tokens, strict=True)]
    return StepResult(
        host_tokens,
        host_logprobs,
        tuple(top for top, _ in chosen),
        tuple(values for _, values in chosen),
    )


def _row_parameters(logits: Tensor, plan: SamplingPlan) -> RowParameters:
    def tensor(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.array(values)).to(logits.device)

    temperatures = tensor(plan.temperatures)
    if (plan.top_k > 0).any() or (plan.top_p < 1).any():
        least, last = boundaries(logits, temperatures, tensor(plan.top_k), tensor(plan.top_p))
    else:
        least = torch.full_like(temperatures, float("-inf"))
        last = torch.full_like(temperatures, logits.shape[1], dtype=torch.int32)
    return RowParameters(
        temperatures=temperatures,
        min_p=tensor(plan.min_p),
        seeds=tensor(plan.seeds.view(np.int64)),
        counters=tensor(plan.counters.view(np.int64)),
        targets=tensor(plan.targets),
        least_logits=least,
        last_tokens=last,
    )


def _most_probable(
    logits: Tensor, plan: SamplingPlan
) -> list[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """The `top_counts` most probable tokens of each row and their log-probabilities."""
    most = int(plan.top_counts.max(initial=0))
    if not most:
        return [(np.empty(0, np.int32), np.empty(0, np.float32))] * len(logits)
    values, order = logits.sort(dim=1, descending=True, stable=True)
    scores = values[:, :most].double() - logits.double().logsumexp(dim=1, keepdim=True)
    tokens, logprobs = order[:, :most].int().cpu().numpy(), scores.float().cpu().numpy()
    return [
        (tokens[row, :count], logprobs[row, :count])
        for row, count in enumerate(plan.top_counts.clip(0))
    ]

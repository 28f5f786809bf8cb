"""Sampling of the next tokens: greedy, or by temperature and top_p."""

from __future__ import annotations

from collections.abc import Sequence as Rows

import torch
from torch import Tensor

from r1_runtime.engine.sequence import SamplingParams


def sample(
    logits: Tensor, params: Rows[SamplingParams], generators: Rows[torch.Generator | None]
) -> list[int | None]:
    """One token per row of logits [n, vocab] (float32); None for a row that is not finite."""
    finite = logits.isfinite().all(dim=-1).tolist()
    greedy = logits.argmax(dim=-1).tolist()
    return [
        None
        if not finite[index]
        else int(token)
        if row.temperature == 0
        else _draw(logits[index], row, generators[index])
        for index, (token, row) in enumerate(zip(greedy, params, strict=True))
    ]


def _draw(logits: Tensor, params: SamplingParams, generator: torch.Generator | None) -> int:
    probabilities = torch.softmax(logits / max(params.temperature, 1e-5), dim=-1)
    if params.top_p >= 1:
        return int(torch.multinomial(probabilities, 1, generator=generator))
    ordered, tokens = probabilities.sort(descending=True)
    # The mass before a token counts, without the token itself: the first token always stays.
    ordered = ordered.masked_fill(ordered.cumsum(0) - ordered >= params.top_p, 0.0)
    return int(tokens[torch.multinomial(ordered, 1, generator=generator)])


def generator_for(params: SamplingParams, device: str) -> torch.Generator | None:
    """The random generator of a request, or None for greedy sampling."""
    if params.temperature == 0:
        return None
    generator = torch.Generator(device=device)
    if params.seed is None:
        generator.seed()
    else:
        generator.manual_seed(params.seed % 2**63)
    return generator

"""The sensitivity of the output predicts the divergence that a small error causes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.reference.rotary import cos_sin
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.conversion.sensitivity import output_metrics
from tiny_checkpoints import write_llama


def test_half_of_the_squared_norm_in_the_metric_is_the_divergence(tmp_path: Path) -> None:
    write_llama(tmp_path)
    network = load_network(open_checkpoint(tmp_path))
    generator = torch.Generator().manual_seed(0)
    windows = torch.randint(1, 200, (12, 48), generator=generator)
    metric = output_metrics(network, windows, seed=0)[-1]
    with torch.inference_mode():
        x = network.embed_tokens(windows)
        for layer in network.decoder_layers():
            x = layer(x, *cos_sin(layer.rope, torch.arange(48)))

        def logprobs(state: torch.Tensor) -> torch.Tensor:
            return network.logits(network.norm(state)).log_softmax(-1)

        # An error of a random direction at each token, a hundredth of the state.
        error = torch.randn(x.shape, generator=generator) * x.std() / 100
        before, after = logprobs(x), logprobs(x + error)
        divergence = F.kl_div(after, before, log_target=True, reduction="none").sum(-1).mean()
    predicted = (error @ metric.T).square().sum(-1).mean() / 2
    assert float(predicted) == pytest.approx(float(divergence), rel=0.35)

"""The reference network without a cache, as training uses it, and in bfloat16."""

from __future__ import annotations

import torch

from parity_cases import Pair
from r1_runtime.backends.reference.loading import load_network
from tiny_checkpoints import VOCABULARY


def batch(rows: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(2, VOCABULARY, (rows, length), generator=generator)


def test_logits_of_whole_sequences_agree(pair: Pair) -> None:
    tokens = batch(2, 100)
    with torch.no_grad():
        theirs, ours = pair.oracle(tokens).logits, load_network(pair.checkpoint)(tokens)
    assert theirs.std() > 0.1, "the oracle's logits are too flat to prove anything"
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_every_parameter_has_a_gradient(pair: Pair) -> None:
    """But for experts that no token of the batch chose."""
    network = load_network(pair.checkpoint).requires_grad_().train()
    network(batch(2, 40)).square().mean().backward()
    without = [name for name, value in network.named_parameters() if value.grad is None]
    assert not without


def test_bfloat16_selects_the_same_token_except_in_near_ties(pair: Pair) -> None:
    tokens = batch(1, 64)
    exact = load_network(pair.checkpoint)(tokens)[0]
    coarse = load_network(pair.checkpoint, dtype=torch.bfloat16)(tokens)[0].float()
    best = exact.topk(2).values
    # A different expert changes logits a lot, so only most positions have to agree.
    clear = (best[:, 0] - best[:, 1]) > 0.5 * exact.std()
    agree = exact.argmax(-1) == coarse.argmax(-1)
    assert agree[clear].float().mean() > 0.7

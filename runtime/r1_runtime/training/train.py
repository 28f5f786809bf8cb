"""Train the demo model on a CPU within a given time.

    python -m r1_runtime.training.train --corpus CORPUS --out RUN --minutes 60

The learning rate follows the elapsed time and not a step count: a short warm-up, a plateau, and a
linear decay over the last 40 % of the time. The run therefore ends annealed at any machine speed.
A running average of the weights is written every few minutes; each is a usable checkpoint.

Experts are balanced as in DeepSeek-V3 (arXiv 2412.19437, section 2.1.2): without an auxiliary loss,
the routers' biases move by a fixed step towards experts with fewer tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.reference.mixture import Router
from r1_runtime.backends.reference.modules import SwiGLU
from r1_runtime.backends.reference.network import Network
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.training.corpus import Section
from r1_runtime.training.dialogues import as_document, read_corpus, training_texts
from r1_runtime.training.export import save_checkpoint
from r1_runtime.training.initial import DEMO_CONFIG, demo_model
from r1_runtime.training.optimizer import MasterWeights
from r1_runtime.training.tokenizer import train_tokenizer, write_tokenizer

BALANCE_STEP = 0.01  # ten times DeepSeek's: this run has a thousandth of the steps
DECAY_SHARE = 0.4
WARM_UP_STEPS = 40


def token_batches(
    sections: list[Section],
    encode: Callable[[list[str]], list[list[int]]],
    rows: int,
    length: int,
    seed: int,
) -> Iterator[Tensor]:
    """Endless [rows, length + 1] batches of packed texts, without padding."""
    rng = random.Random(seed)  # noqa: S311  (shuffling, not secrets)
    buffer: list[int] = []
    need = rows * (length + 1)
    while True:
        texts: list[str] = []
        for text in training_texts(sections, rng):
            texts.append(text)
            if len(texts) < 256:
                continue
            buffer += [token for row in encode(texts) for token in row]
            texts = []
            while len(buffer) >= need:
                yield torch.tensor(buffer[:need]).view(rows, length + 1)
                buffer = buffer[need:]


class Balancer:
    """Counts the tokens per expert and adjusts the routers' biases against the excess."""

    def __init__(self, model: nn.Module) -> None:
        self.routers = [module for module in model.modules() if isinstance(module, Router)]
        self.counts = [torch.zeros_like(router.e_score_correction_bias) for router in self.routers]
        for index, router in enumerate(self.routers):
            router.register_forward_hook(self._counter(index))

    def _counter(self, index: int) -> Callable[[nn.Module, Any, tuple[Tensor, Tensor]], None]:
        def count(_module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
            counts = self.counts[index]
            counts += torch.bincount(output[0].flatten(), minlength=len(counts))

        return count

    def step(self) -> float:
        """Adjust the biases; returns the highest expert load relative to the mean."""
        worst = 0.0
        for router, counts in zip(self.routers, self.counts, strict=True):
            mean = counts.mean()
            worst = max(worst, float(counts.max() / mean))
            router.e_score_correction_bias.add_((mean - counts).sign(), alpha=BALANCE_STEP)
            counts.zero_()
        return worst


def loss_of(model: Network, batch: Tensor) -> Tensor:
    """Mean next-token cross-entropy in nats."""
    logits = model(batch[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


def schedule(share: float, step: int) -> float:
    """Factor on the learning rate after a `share` of the time."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm * min(1.0, max(0.0, (1 - share) / DECAY_SHARE))


def prepare(model: Network, compile_parts: bool) -> Network:
    """Convert to bfloat16 weights and float32 biases; compile parts without data-dependent shapes."""
    biases = [m.e_score_correction_bias for m in model.modules() if isinstance(m, Router)]
    saved = [bias.clone() for bias in biases]
    model = model.bfloat16().train()
    routers = [module for module in model.modules() if isinstance(module, Router)]
    for router, bias in zip(routers, saved, strict=True):
        router.e_score_correction_bias = nn.Buffer(bias)
    if compile_parts:
        for layer in model.decoder_layers():
            layer.self_attn.compile(dynamic=False)
        for module in model.modules():
            if isinstance(module, SwiGLU):
                module.compile(dynamic=False)
    return model


def threads_by_load() -> int:
    """Two threads, or one while the machine is loaded."""
    return 2 if os.getloadavg()[0] < 2.5 else 1


def evaluate(model: Network, batches: list[Tensor]) -> float:
    """Mean loss over held-out batches with the current weights."""
    # Gradients stay enabled: disabling them would cause another compilation.
    losses = [float(loss_of(model, batch).detach()) for batch in batches]
    return sum(losses) / len(losses)


def held_out_batches(
    sections: list[Section], encode: Callable[[list[str]], list[list[int]]], rows: int, length: int
) -> list[Tensor]:
    """The held-out pages as packed documents, without the incomplete last batch."""
    tokens = [token for row in encode([as_document(s) for s in sections]) for token in row]
    need = rows * (length + 1)
    whole = len(tokens) // need * need
    return list(torch.tensor(tokens[:whole]).view(-1, rows, length + 1))


def train(options: argparse.Namespace) -> None:
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    sections = read_corpus(options.corpus / "sections.jsonl")
    training = [section for section in sections if not section.held_out]
    held_out = [section for section in sections if section.held_out]
    start: Path | None = options.start
    if start is None:
        tokenizer = train_tokenizer((as_document(s) for s in training), DEMO_CONFIG["vocab_size"])
    else:  # token numbers must keep their meaning
        tokenizer = Tokenizer.from_file(str(start / "tokenizer.json"))
    write_tokenizer(tokenizer, out, DEMO_CONFIG["max_position_embeddings"])

    def encode(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]

    rows, length = options.rows, options.length
    validation = held_out_batches(held_out, encode, rows, length)
    fresh = demo_model() if start is None else load_network(open_checkpoint(start))
    model = prepare(fresh.requires_grad_(), options.compile)
    weights = MasterWeights(model.named_parameters())
    balancer = Balancer(model)
    log = (out / "log.jsonl").open("a", encoding="utf-8")
    started = saved = time.monotonic()
    budget = options.minutes * 60
    batches = token_batches(training, encode, rows, length, options.seed)
    for step, batch in enumerate(batches):
        if options.threads == 0 and step % 10 == 0:
            torch.set_num_threads(threads_by_load())
        elapsed = time.monotonic() - started
        if elapsed >= budget:
            break
        loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        rate = schedule(elapsed / budget, step)
        weights.step(rate)
        worst = balancer.step()
        record: dict[str, Any] = {
            "step": step,
            "seconds": round(elapsed, 1),
            "tokens": (step + 1) * rows * length,
            "loss": round(float(loss.detach()), 4),
            "rate": round(rate, 4),
            "worst_expert": round(worst, 2),
        }
        if time.monotonic() - saved > options.save_minutes * 60:
            record["held_out"] = round(checkpoint(model, weights, validation[:4], out), 4)
            saved = time.monotonic()
        log.write(json.dumps(record) + "\n")
        log.flush()
    final = checkpoint(model, weights, validation, out)
    tokens = step * rows * length
    summary = {
        "held_out_loss": round(final, 4),
        "held_out_perplexity": round(math.exp(final), 3),
        "held_out_tokens": len(validation) * rows * length,
        "training_tokens": tokens,
        "steps": step,
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    log.close()


def checkpoint(model: Network, weights: MasterWeights, batches: list[Tensor], out: Path) -> float:
    """Write the averaged weights and return their held-out loss; training continues unchanged."""
    weights.load_into_model(weights.averaged)
    loss = evaluate(model, batches)
    save_checkpoint(model, DEMO_CONFIG, out)
    weights.load_into_model(weights.master)
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with sections.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--from", dest="start", type=Path, help="continue from this checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="order of the texts")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="time limit in minutes (default: 60)"
    )
    parser.add_argument(
        "--save-minutes", type=float, default=4.0, help="minutes between checkpoints (default: 4)"
    )
    parser.add_argument("--rows", type=int, default=8, help="sequences per step")
    parser.add_argument("--length", type=int, default=256, help="tokens per sequence")
    parser.add_argument("--threads", type=int, default=0, help="0: one or two, by the load")
    parser.add_argument("--compile", action="store_true", help="use torch.compile (needs g++)")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.threads:
        torch.set_num_threads(options.threads)
    # The CPU's fused attention needs keys and values of equal width.
    with sdpa_kernel(SDPBackend.MATH):
        train(options)


if __name__ == "__main__":
    main()

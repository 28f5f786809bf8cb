"""Held-out perplexity of a checkpoint of the demo model.

python -m r1_runtime.training.evaluate --corpus CORPUS --model FOLDER
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer

from r1_runtime.backends.reference.loading import load_network
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.training.dialogues import read_corpus
from r1_runtime.training.train import held_out_batches, loss_of


def held_out(model_folder: Path, corpus: Path, length: int = 256) -> dict[str, float]:
    """Loss (nats per token) and perplexity over all held-out pages, in float32."""
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    sections = [s for s in read_corpus(corpus / "sections.jsonl") if s.held_out]

    def encode(texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]

    batches = held_out_batches(sections, encode, 8, length)
    model = load_network(open_checkpoint(model_folder))
    with torch.inference_mode():
        loss = sum(float(loss_of(model, batch)) for batch in batches) / len(batches)
    tokens = sum(batch[:, 1:].numel() for batch in batches)
    return {"loss": round(loss, 4), "perplexity": round(math.exp(loss), 2), "tokens": tokens}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with sections.jsonl")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    options = parser.parse_args()
    sys.stdout.write(json.dumps(held_out(options.model, options.corpus)) + "\n")


if __name__ == "__main__":
    main()

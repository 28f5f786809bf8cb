"""Trains a layer that drafts tokens for the bundled model, whose own weights stay.

`python -m r1_bench.runtime.draft_layer OUT [--minutes 4]`. The bundled checkpoint has no such layer, so
acceptance and gain of multi-token prediction cannot be measured on it as it is. The layer starts as a copy
of the last layer. It learns from docstrings of Python's standard library, which need no download; one
docstring in 20 is held out, and `held_out.txt` in OUT has them.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

import r1_runtime
from r1_runtime.backends.reference.loading import load_network, stored_parts
from r1_runtime.backends.reference.network import Network
from r1_runtime.backends.reference.rotary import cos_sin
from r1_runtime.checkpoint.open import open_checkpoint

MODEL = Path(r1_runtime.__path__[0]) / "models_bundled" / "demo"
_HELD_OUT_ONE_IN = 20
_SHORTEST = 200  # characters of a docstring
_ROWS, _LENGTH = 8, 128


def docstrings() -> list[str]:
    """Long docstrings of the standard library, in a fixed order."""
    texts: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
        texts += [" ".join(text.split()) for text in found if text and len(text) >= _SHORTEST]
    return texts


def batches(texts: list[str], tokenizer: Tokenizer) -> Iterator[Tensor]:
    """Endless [rows, length] batches of packed texts."""
    order = random.Random(0)  # noqa: S311  (shuffling, not secrets)
    buffer: list[int] = []
    while True:
        order.shuffle(texts)
        for encoding in tokenizer.encode_batch(texts):
            buffer += encoding.ids
        need = _ROWS * _LENGTH
        while len(buffer) >= need:
            yield torch.tensor(buffer[:need]).view(_ROWS, _LENGTH)
            buffer = buffer[need:]


def draft_loss(network: Network, tokens: Tensor) -> Tensor:
    """Cross-entropy in nats against the network's own distribution of the token after the next one.

    A draft is accepted when it equals what the network samples, so the network is the teacher.
    """
    layer = network.draft_layer
    assert layer is not None  # noqa: S101
    positions = torch.arange(tokens.shape[1])
    with torch.no_grad():
        x = network.embed_tokens(tokens)
        for each in network.decoder_layers():
            x = each(x, *cos_sin(each.rope, positions))
        state = network.norm(x)
        taught = network.logits(state[:, 1:]).softmax(-1)
        embedded = network.embed_tokens(tokens[:, 1:])
    joined = torch.cat((layer.enorm(embedded), layer.hnorm(state[:, :-1])), dim=-1)
    x = layer(layer.eh_proj(joined), *cos_sin(layer.rope, positions[:-1]))
    logits = network.logits(layer.shared_head.norm(x))
    return F.cross_entropy(logits.flatten(0, 1), taught.flatten(0, 1))


def untrained(folder: Path) -> Path:
    """The bundled checkpoint with a copy of its last layer as the layer that drafts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODEL.iterdir():
        shutil.copyfile(name, folder / name.name)
    config = json.loads((folder / "config.json").read_text())
    count, hidden = config["num_hidden_layers"], config["hidden_size"]
    config["num_nextn_predict_layers"] = 1
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = load_file(folder / "model.safetensors")
    last, draft = f"model.layers.{count - 1}.", f"model.layers.{count}."
    weights |= {
        name.replace(last, draft): value.clone()
        for name, value in weights.items()
        if name.startswith(last)
    }
    ones = torch.ones(hidden)
    weights |= {f"{draft}{name}.weight": ones.clone() for name in ("enorm", "hnorm")}
    weights[draft + "shared_head.norm.weight"] = weights["model.norm.weight"].clone()
    half = 0.5 * torch.eye(hidden)
    weights[draft + "eh_proj.weight"] = torch.cat((half, half), dim=1)
    save_file(weights, folder / "model.safetensors")
    return folder


def train(folder: Path, minutes: float) -> float:
    """Train the layer of `folder`'s checkpoint in place; return the held-out loss in nats."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = docstrings()
    held_out = texts[::_HELD_OUT_ONE_IN]
    (folder / "held_out.txt").write_text("\n".join(held_out), encoding="utf-8")
    texts = [text for at, text in enumerate(texts) if at % _HELD_OUT_ONE_IN]
    network = load_network(open_checkpoint(folder), with_draft_layer=True)
    layer = network.draft_layer
    assert layer is not None  # noqa: S101
    layer.requires_grad_()
    parameters = [one for one in layer.parameters() if one.is_floating_point()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.01)
    started = time.process_time()
    for step, tokens in enumerate(batches(texts, tokenizer)):
        share = (time.process_time() - started) / (60 * minutes)
        if share >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20) * (1 - share)
        optimiser.zero_grad()
        loss = draft_loss(network, tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 50 == 0:
            sys.stderr.write(f"step {step}: loss {float(loss.detach()):.3f}\n")
    checks = batches(held_out, tokenizer)
    with torch.no_grad():
        losses = [float(draft_loss(network, next(checks))) for _ in range(8)]
    weights = load_file(folder / "model.safetensors")
    prefix = f"model.layers.{len(network.layers)}."
    for name, value in layer.state_dict().items():
        for stored, part in stored_parts(name, value):
            kept = torch.float32 if "e_score" in stored else torch.bfloat16
            weights[prefix + stored] = part.to(kept).contiguous().clone()
    save_file(weights, folder / "model.safetensors")
    return sum(losses) / len(losses)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.runtime.draft_layer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder of the checkpoint")
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="of CPU time for the training (default: 4)"
    )
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loss = train(untrained(given.out), given.minutes)
    sys.stdout.write(f"held-out loss {loss:.3f} nats\n")


if __name__ == "__main__":
    main()

"""The bundled model: small, complete, loadable by transformers, with a chat template."""

from __future__ import annotations

import json
import math

import pytest
import torch

from r1_runtime.architecture.description import LatentAttention, MixtureOfExperts
from r1_runtime.architecture.families import read_description
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.server.options import resolve_model
from r1_runtime.tokenizer.open import open_tokenizer
from r1_runtime.training.dialogues import as_dialogue

FOLDER = resolve_model("bundled:demo")
SENTENCES = (
    "The module provides a function that returns a list of the names of the columns in the table. "
    "If the value is not specified, the default is used. This is the same as the previous section."
)


def test_bundled_model_is_small_and_has_every_part_of_the_architecture() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 20 * 2**20
    demo = read_description(FOLDER)
    attention, experts = demo.layers[-1].attention, demo.layers[-1].feed_forward
    assert isinstance(attention, LatentAttention)
    assert attention.q_lora_rank is not None
    assert isinstance(experts, MixtureOfExperts)
    assert experts.experts >= 8
    assert experts.shared_inner > 0
    assert experts.top_groups < experts.groups
    assert demo.dtype == "bfloat16"


def test_bundled_model_generates_english() -> None:
    """Far better than chance on common words; docs/demo-model.md has the held-out loss."""
    model = load_network(open_checkpoint(FOLDER))
    size = model.description.vocab_size
    tokens = torch.tensor([open_tokenizer(FOLDER, size).encode(SENTENCES)])
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(tokens)[0, :-1], tokens[0, 1:])
    assert float(loss) < 0.6 * math.log(size)


def test_bundled_chat_template_matches_the_training_format() -> None:
    demo = read_description(FOLDER)
    tokenizer = open_tokenizer(FOLDER, demo.vocab_size, demo.eos_token_ids)
    prompt = tokenizer.encode_chat([{"role": "user", "content": "What is a page?"}])
    trained = tokenizer.encode(as_dialogue("What is a page?", "A page."))
    assert trained[: len(prompt)] == prompt
    assert trained[-1] in tokenizer.eos_ids


def test_transformers_loads_the_bundled_model_with_equal_logits() -> None:
    transformers = pytest.importorskip("transformers")
    oracle = transformers.DeepseekV3ForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    model = load_network(open_checkpoint(FOLDER))
    tokens = torch.randint(5, 4000, (1, 60), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), oracle(tokens).logits, atol=1e-4, rtol=0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    messages = [{"role": "user", "content": "naïve 東京?"}]
    theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    ours = open_tokenizer(FOLDER, read_description(FOLDER).vocab_size).encode_chat(messages)
    assert ours == theirs


def test_bundled_model_files_are_readable() -> None:
    settings = json.loads((FOLDER / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == (FOLDER / "chat_template.jinja").read_text()
    assert (FOLDER / "model.safetensors").stat().st_mode & 0o044 == 0o044

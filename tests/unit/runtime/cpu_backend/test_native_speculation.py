"""Drafts by prompt lookup on the bundled model: the same tokens in fewer steps."""

from __future__ import annotations

from pathlib import Path

import pytest

import r1_runtime
from engine_runs import Run, run_requests
from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.engine.messages import Request
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.speculation import lookup_drafter
from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer
from r1_runtime.tokenizer.open import open_tokenizer

MODEL = Path(r1_runtime.__path__[0]) / "models_bundled" / "demo"
DOCUMENT = Path(__file__).parents[4] / "LICENSE"  # a text that does not change
PROMPTS = 20


@pytest.fixture(scope="module")
def backend() -> CpuBackend:
    return CpuBackend(open_checkpoint(MODEL), blocks=400, block_size=16)


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return open_tokenizer(MODEL, open_checkpoint(MODEL).description.vocab_size, ())


def texts() -> list[str]:
    """Real text whose end repeats its beginning."""
    document = DOCUMENT.read_text(encoding="utf-8")
    parts = [document[at * 300 : (at + 1) * 300] for at in range(PROMPTS)]
    return [f"{part}\n{part[:200]}" for part in parts]


def run(backend: CpuBackend, tokenizer: ChatTokenizer, temperature: float, *, drafts: bool) -> Run:
    requests = [
        Request(
            str(index),
            tuple(tokenizer.encode(text, 1000)),
            SamplingParams(
                max_tokens=24, temperature=temperature, top_p=0.95, seed=index, ignore_eos=True
            ),
            0.0,
        )
        for index, text in enumerate(texts())
    ]
    return run_requests(backend, requests, drafter=(lambda _: lookup_drafter) if drafts else None)


@pytest.mark.parametrize("temperature", [0.0, 0.7], ids=["greedy", "sampled with a seed"])
def test_drafts_leave_the_output_of_20_repetitive_prompts_unchanged(
    backend: CpuBackend, tokenizer: ChatTokenizer, temperature: float
) -> None:
    plain = run(backend, tokenizer, temperature, drafts=False)
    drafted = run(backend, tokenizer, temperature, drafts=True)
    assert drafted.tokens == plain.tokens
    assert len(plain.tokens) == PROMPTS
    assert plain.state.drafts == plain.state.draft_tokens == 0
    assert 0 < drafted.state.accepted_tokens <= drafted.state.draft_tokens
    assert drafted.state.drafts <= drafted.state.draft_tokens

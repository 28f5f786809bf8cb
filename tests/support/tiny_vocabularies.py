"""Small vocabularies, trained on a few texts, as GGUF metadata, tiktoken ranks and pieces."""

from __future__ import annotations

import json
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from varied_texts import varied_texts


@cache
def byte_level_merges(size: int = 700) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens in byte characters and merges, learned without splits: every split shows in the tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=6,
    )
    tokenizer.train_from_iterator(varied_texts() * 2, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tokens, [(left, right) for left, right in model["merges"]]


@cache
def sentencepiece_pieces(size: int = 600) -> tuple[list[str], list[float]]:
    """Pieces and scores as SentencePiece's BPE has them: specials, bytes, then merges, then letters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", split=True)
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, max_token_length=6)
    tokenizer.train_from_iterator(varied_texts(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merged = list(dict.fromkeys(left + right for left, right in model["merges"]))
    letters = [token for token in model["vocab"] if token not in merged]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    scores = [0.0] * len(pieces)
    scores += [-float(rank) for rank in range(len(merged) + len(letters))]
    return [*pieces, *merged, *letters], scores

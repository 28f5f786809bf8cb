"""Opening of the tokenizer that belongs to a checkpoint of any supported format."""

from __future__ import annotations

from pathlib import Path

from r1_runtime.checkpoint.gguf_paths import gguf_file_of
from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer
from r1_runtime.tokenizer.gguf_vocabulary import read_gguf_tokenizer
from r1_runtime.tokenizer.tokenizer_files import read_tokenizer_files


def open_tokenizer(
    path: Path, vocab_size: int, eos_token_ids: tuple[int, ...] = ()
) -> ChatTokenizer:
    """The tokenizer of a checkpoint folder or a GGUF file.

    Args:
        path: the folder or file, as for `open_checkpoint`.
        vocab_size: rows of the embedding matrix.
        eos_token_ids: tokens that end an output by the model's configuration.

    Raises:
        ModelLoadError: the tokenizer is missing, unreadable or not implemented.
    """
    file = gguf_file_of(path)
    definition = read_tokenizer_files(path) if file is None else read_gguf_tokenizer(file)
    return ChatTokenizer(definition, vocab_size, eos_token_ids)

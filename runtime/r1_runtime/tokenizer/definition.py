"""What a tokenizer is made from, whatever file it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TokenizerDefinition:
    """A tokenizer in the form of `tokenizer.json`, with its chat template.

    Attributes:
        where: the file, for messages.
        raw: the object of `tokenizer.json`, the format of the `tokenizers` library.
        special_texts: the template's variables for special tokens; bos_token and eos_token are
            always present, and empty without such a token.
        adds_begin: plain text gets the begin token in front.
        chat_template: Jinja text, or None.
        end_ids: tokens that end an output.
    """

    where: object
    raw: Mapping[str, Any]
    special_texts: Mapping[str, str]
    adds_begin: bool = False
    chat_template: str | None = None
    end_ids: tuple[int, ...] = ()

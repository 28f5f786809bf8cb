"""Limits of requests and of the server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request and of the server.

    Attributes:
        max_model_len: tokens of prompt and output together.
        max_in_flight: outputs running or waiting.
        vocabulary: number of tokens; valid token numbers are below it.
        block_count: blocks of the cache.
        block_size: tokens per block.
        hidden_size: values of an embedding.
    """

    max_model_len: int
    max_in_flight: int
    vocabulary: int
    block_count: int = 0
    block_size: int = 0
    hidden_size: int = 0

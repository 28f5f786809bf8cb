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
    """

    max_model_len: int
    max_in_flight: int
    vocabulary: int

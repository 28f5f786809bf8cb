"""A try of a request on a pod, and the tokens that the response used."""

from __future__ import annotations

from dataclasses import dataclass

from r1_gateway.http.stream_reader import StreamReader


@dataclass(slots=True, eq=False)
class Attempt:
    """One try of a request: what statistics and the access log read at the end."""

    address: str
    """The pod, ``host:port``."""
    started: float
    """Monotonic seconds."""
    number: int = 1
    """1 for the first try of the request."""
    first_token_at: float | None = None
    input_tokens: int | None = None
    """By the engine's ``usage``; None without one."""
    output_tokens: int | None = None


def used_tokens(
    attempt: Attempt | None, reader: StreamReader | None, prompt_tokens: int, status: int
) -> tuple[int, int]:
    """Input and output tokens of a request that ended, as far as they are known.

    ``prompt_tokens`` is the estimate at arrival.  A request that its client cancelled on a pod used
    its prompt and the events so far.  An error response without a token used none.
    """
    if attempt is None:
        return 0, 0
    output = attempt.output_tokens
    if output is None:
        output = reader.events if reader is not None and reader.first_token else 0
    if not output and 400 <= status != 499:
        return 0, 0
    sent = attempt.input_tokens
    return (prompt_tokens if sent is None else sent), output

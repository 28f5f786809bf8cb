"""What the engine returns for tokens: stop tokens, log-probabilities, constraints."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from typing import Any

import numpy as np
import pytest

from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.constraint import TokenConstraint
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.messages import (
    EngineState,
    Output,
    Request,
    SampledRow,
    TokenLogprobs,
)
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler, Step
from r1_runtime.engine.sequence import Finish, Sequence

END = 0


class Alphabet:
    """Generates a, b, c, ...; scores prompt tokens where requested."""

    def execute(self, step: Step) -> list[SampledRow]:
        rows = []
        for chunk in step.chunks:
            sequence = chunk.sequence
            if sequence.params.prompt_logprobs is not None:
                for at in range(max(1, chunk.start + 1), chunk.start + chunk.count + 1):
                    if at < sequence.prompt_length:
                        token = sequence.tokens[at]
                        rows.append(SampledRow(sequence, token, self.logprobs(token), scored=at))
            if chunk.samples:
                token = 97 + sequence.generated
                rows.append(SampledRow(sequence, token, self.logprobs(token)))
        return rows

    def logprobs(self, token: int) -> TokenLogprobs:
        return TokenLogprobs(token, -float(token))

    def release(self, sequence: Sequence) -> None: ...


def decode(tokens: Rows[int]) -> str:
    return "".join(map(chr, tokens))


def outputs(request: Request, model: Alphabet | None = None) -> list[Output]:
    """All outputs of one request, step by step."""
    delivered: list[Output] = []

    def deliver(batch: list[Output], state: EngineState) -> None:
        delivered.extend(batch)

    scheduler = Scheduler(BlockPool(64, 4), 2, max_step_tokens=4)
    times = iter(range(1000))
    engine = Engine(
        scheduler, model or Alphabet(), decode, [END], deliver, lambda: float(next(times))
    )
    engine.submit(request)
    engine._take_commands()
    for _ in range(50):
        engine.step()
    assert delivered[-1].finish is not None
    return delivered


def request(**fields: Any) -> Request:
    params = SamplingParams(**({"max_tokens": 4} | fields.pop("params", {})))
    return Request("r", (65, 66, 67, 68, 69, 70), params, 0.0, **fields)


@pytest.mark.parametrize(
    ("stop", "min_tokens", "text"),
    [
        ("b", 0, "a"),
        ("b", 1, "a"),
        ("b", 2, "abcdef"),  # the text of the first two tokens has it
        ("bc", 2, "abcdef"),
        ("d", 3, "abc"),
    ],
)
def test_stop_strings_are_searched_for_after_min_tokens(
    stop: str, min_tokens: int, text: str
) -> None:
    params = {"stop": (stop,), "min_tokens": min_tokens, "max_tokens": 6}
    given = outputs(request(params=params))
    assert "".join(output.text for output in given) == text


def test_stop_token_ends_the_output_and_is_not_in_its_text() -> None:
    given = outputs(request(params={"stop_token_ids": (99,)}))
    assert "".join(output.text for output in given) == "ab"
    assert (given[-1].finish, given[-1].generated) == (Finish.STOP, 3)
    assert [output.token_ids for output in given] == [(97,), (98,), (99,)]


def test_logprobs_of_tokens_and_of_the_prompt_arrive_once_and_in_order() -> None:
    given = outputs(request(params={"prompt_logprobs": 0, "logprobs": 0}))
    assert [entry.token for entry in given[0].prompt_logprobs] == [66, 67, 68, 69, 70]
    assert all(not output.prompt_logprobs for output in given[1:])
    assert [output.logprobs[0].token for output in given] == [97, 98, 99, 100]


def test_tokens_after_the_first_have_a_gap() -> None:
    given = outputs(request())
    assert given[0].token_gap is None
    assert all(output.token_gap and output.token_gap > 0 for output in given[1:])


def test_special_tokens_are_decoded_where_the_request_asks_for_them() -> None:
    given = outputs(request(decode=lambda tokens: decode(tokens).upper()))
    assert "".join(output.text for output in given) == "ABCD"


class Counted(TokenConstraint):
    """Ends after a number of tokens; fails at one token."""

    def __init__(self, most: int, invalid: int | None = None) -> None:
        self.most = most
        self.invalid = invalid
        self.tokens: list[int] = []

    param = "guided_regex"

    def mask(self) -> Any:
        return np.zeros(1, np.uint32)

    def accept(self, token: int) -> None:
        if token == self.invalid:
            raise RuntimeError("not allowed")
        self.tokens.append(token)

    @property
    def finished(self) -> bool:
        return len(self.tokens) >= self.most


def test_output_ends_when_its_constraint_is_complete() -> None:
    constraint = Counted(2)
    given = outputs(request(constraint=constraint))
    assert (given[-1].finish, given[-1].generated) == (Finish.STOP, 2)
    assert constraint.tokens == [97, 98]


@pytest.mark.parametrize("token", [97, 98])
def test_token_that_a_constraint_rejects_ends_the_request_with_an_error(token: int) -> None:
    given = outputs(request(constraint=Counted(9, invalid=token)))
    assert given[-1].finish is Finish.ERROR
    assert "not allowed" in (given[-1].error or "")


class Nothing(Alphabet):
    """Samples no token."""

    def execute(self, step: Step) -> list[SampledRow]:
        return [SampledRow(row.sequence, None) for row in super().execute(step)]


@pytest.mark.parametrize(
    ("mask", "min_tokens", "cause"),
    [
        (0, 0, "guided_regex allows no token after 0 tokens"),
        (
            1,
            2,
            "guided_regex allows only the end of the output after 0 tokens, and min_tokens is 2",
        ),
        (1, 0, "the model computed logits that are not finite"),
    ],
)
def test_a_row_without_a_token_names_the_constraint_that_excludes_all(
    mask: int, min_tokens: int, cause: str
) -> None:
    class Masked(Counted):
        def mask(self) -> Any:
            return np.full(1, mask, np.uint32)

    wanted = request(constraint=Masked(9), params={"min_tokens": min_tokens})
    assert outputs(wanted, Nothing())[-1].error == cause

"""Constraints on tokens: grammars of the bundled model's vocabulary, and the budget of reasoning."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import r1_runtime
from r1_runtime.engine.constraint import TokenConstraint
from r1_runtime.errors import RequestError
from r1_runtime.structured.grammar import GrammarCompiler
from r1_runtime.structured.thinking import ThinkingConstraint

END = 1


@pytest.fixture(scope="module")
def tokenizer_file() -> Path:
    return next(Path(r1_runtime.__path__[0]).glob("models_bundled/*/tokenizer.json"))


@pytest.fixture(scope="module")
def compiler(tokenizer_file: Path) -> GrammarCompiler:
    vocabulary = Tokenizer.from_file(str(tokenizer_file)).get_vocab_size()
    return GrammarCompiler(tokenizer_file.read_text, vocabulary, [END])


def generated(constraint: TokenConstraint, tokenizer_file: Path, seed: int) -> str:
    """Text of random allowed tokens, with brackets and quotes before others so that it ends."""
    tokenizer: Any = Tokenizer.from_file(str(tokenizer_file))
    generator = np.random.default_rng(seed)
    tokens: list[int] = []
    for _ in range(400):
        if constraint.finished:
            break
        mask = constraint.mask()
        assert mask is not None
        bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
        allowed = np.flatnonzero(bits)
        assert len(allowed)
        closing = [one for one in allowed if tokenizer.decode([one])[:1] in ('"', "}", "]")]
        choice = closing if closing and len(tokens) > 20 else allowed
        token = int(generator.choice(choice))
        if token == END or (END in allowed and len(tokens) > 20):
            break
        constraint.accept(token)
        tokens.append(token)
    return str(tokenizer.decode(tokens))


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("kind", ["json_schema", "call"])
@pytest.mark.parametrize("seed", range(4))
def test_random_tokens_under_a_schema_are_json_of_it(
    compiler: GrammarCompiler, tokenizer_file: Path, kind: str, seed: int
) -> None:
    text = generated(compiler.compile(kind, SCHEMA, "f"), tokenizer_file, seed)
    value = json.loads(text)
    assert set(value) == {"a", "b"}
    assert value["b"] in ("x", "y")


def test_choice_regex_and_grammars_allow_only_their_texts(
    compiler: GrammarCompiler, tokenizer_file: Path
) -> None:
    cases: list[tuple[str, Any, set[str]]] = [
        ("choice", ("red", 'gr"een'), {"red", 'gr"een'}),
        ("regex", "(ab|cd)e", {"abe", "cde"}),
        ("grammar", 'start: "x" | "y"', {"x", "y"}),
        ("grammar", 'root ::= "x" | "y"', {"x", "y"}),
    ]
    for kind, value, texts in cases:
        for seed in range(3):
            constraint = compiler.compile(kind, value, "f")
            assert generated(constraint, tokenizer_file, seed) in texts
            assert constraint.finished


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("json_schema", {"type": "nothing"}),
        ("json_schema", {"type": "string", "pattern": "("}),
        ("regex", "("),
        ("grammar", 'start: "'),
        ("grammar", "root ::= ("),
    ],
)
def test_a_grammar_that_does_not_compile_is_rejected_with_its_field(
    compiler: GrammarCompiler, kind: str, value: Any
) -> None:
    with pytest.raises(RequestError, match="guided_x does not compile") as caught:
        compiler.compile(kind, value, "guided_x")
    assert (caught.value.status, caught.value.param) == (400, "guided_x")


def test_outputs_of_one_grammar_are_independent(compiler: GrammarCompiler) -> None:
    first, second = (compiler.compile("regex", "ab", "f") for _ in range(2))
    before = second.mask()
    first.accept(int(np.flatnonzero(np.unpackbits(before.view(np.uint8), bitorder="little"))[0]))
    assert (second.mask() == before).all()


def test_the_library_is_imported_with_the_first_grammar_only() -> None:
    code = "import sys, r1_runtime.server.app; sys.exit('llguidance' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class Only:
    """Allows one token, then ends."""

    finished = False

    param = "guided_regex"

    def mask(self) -> Any:
        return np.array([1 << 9], np.uint32)

    def accept(self, token: int) -> None:
        self.finished = token == 9


def test_budget_forces_the_end_of_the_reasoning_and_the_grammar_begins_after_it() -> None:
    constraint = ThinkingConstraint(4, 5, 20, inside=True, budget=2, content=Only())
    for token in (7, 8):
        assert constraint.mask() is None
        constraint.accept(token)
    mask = constraint.mask()
    assert mask is not None
    assert mask.tolist() == [1 << 5]
    constraint.accept(5)
    mask = constraint.mask()
    assert mask is not None
    assert mask.tolist() == [1 << 9]
    assert not constraint.finished
    constraint.accept(9)
    assert constraint.finished


def test_budget_counts_from_a_begin_tag_that_the_model_writes() -> None:
    constraint = ThinkingConstraint(4, 5, 20, inside=False, budget=0)
    constraint.accept(7)
    assert constraint.mask() is None
    constraint.accept(4)
    mask = constraint.mask()
    assert mask is not None
    assert mask.tolist() == [1 << 5]


def test_white_space_in_json_is_bounded(compiler: GrammarCompiler, tokenizer_file: Path) -> None:
    tokenizer: Any = Tokenizer.from_file(str(tokenizer_file))
    constraint = compiler.compile("json_schema", SCHEMA, "f")
    (brace,) = tokenizer.encode("{").ids
    constraint.accept(brace)
    (space,) = tokenizer.encode("\n").ids
    for _ in range(64):
        constraint.accept(space)
    with pytest.raises(RuntimeError, match="the grammar cannot continue"):
        constraint.accept(space)

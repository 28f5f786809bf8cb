"""Configuration of the engine: one dataclass, of which the command line is a view.

A field of `R1Config` is an option of `python -m r1_runtime.serve`, a setting of `r1 tune` and of the
benchmarks. Its name, type, default, valid values and help stand here only.
"""

from __future__ import annotations

import argparse
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Self

from r1_runtime.errors import OptionError

DTYPES = ("auto", "float32", "float16", "bfloat16")
BACKENDS = ("auto", "cpu", "cuda", "reference")
QUANTIZATIONS = ("none", "int8", "int4")
SPECULATIONS = ("none", "ngram", "mtp")
CACHE_DTYPES = (*DTYPES, "int8", "int4", "fp8")
_OptionContainer = argparse._ActionsContainer
SPARSITY = "sparse attention"
GROUPS: dict[str, str] = {
    "experts": "how many experts a token uses, and where experts are",
    SPARSITY: "A token reads a part of the cache: the units of 16 tokens whose coarse scores are the"
    " highest, the first tokens (sinks) and the last ones. It changes the output, so measure the loss"
    " on your model and text first. --attention-sparsity 0.8 --adaptive-sparsity reads 6 to 14 percent."
    " Contexts below --sparse-from are read whole.",
}
"""Title and explanation of a group of options in `--help`, by the `group` of its fields."""


@dataclass(frozen=True, slots=True)
class Option:
    """A field as a command line option.

    Attributes:
        help: one line, with the default where `--help` cannot derive it.
        flag: the option; empty for the field's name with dashes.
        choices: valid values, in lower case; the case of a given value does not matter.
        least: smallest valid number.
        most: largest valid number.
        group: key of `GROUPS`, or empty for the general options.
        negated: the flag turns the field off, such as `--no-prefix-caching`.
        repeated: the option may be given several times.
    """

    help: str
    flag: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    group: str = ""
    negated: bool = False
    repeated: bool = False


def option(default: Any, help: str, **given: Any) -> Any:
    """A dataclass field with a default that is also a command line option; see `Option`."""
    return field(default=default, metadata={"option": Option(help, **given)})


@dataclass(frozen=True, slots=True, kw_only=True)
class R1Config:
    """Configuration of one served model.

    `R1Config(base_model="bundled:smollm2", quantization="int4")` equals the command line
    `--model-path bundled:smollm2 --quantization int4`. An instance is valid by itself. Whether the model
    and the machine support it is decided by `backends.selection`, with an error that names the option.

    Raises:
        OptionError: with the option and its valid values.
    """

    base_model: str = field(
        metadata={
            "option": Option(
                "checkpoint folder, GGUF file, or bundled:NAME for a bundled model", "--model-path"
            )
        }
    )
    backend: str = option(
        "auto",
        "cpu: the native library; cuda: GPU kernels; reference: torch (default: auto, the fastest)",
        choices=BACKENDS,
    )
    device: str = option("auto", "auto, cpu or cuda (default: auto)")
    dtype: str = option(
        "auto", "data type of the weights (default: auto, as stored)", choices=DTYPES
    )
    quantization: str = option(
        "none",
        "pack the weights with fewer bits while they load (default: none)",
        choices=QUANTIZATIONS,
    )
    kv_cache_dtype: str = option(
        "auto",
        "data type of the cache (default: auto, float16 unless the weights are float32); int8, fp8 and"
        " int4 hold about 2, 2 and 3.5 times the tokens of float16",
        choices=CACHE_DTYPES,
    )
    tensor_parallel_size: int = option(
        1, "ranks (processes, one per GPU) that split every matrix (default: 1)", least=1
    )
    pipeline_parallel_size: int | None = option(
        None,
        "stages, each with adjacent layers (default: one per pod of a LeaderWorkerSet, else 1)",
        least=1,
    )
    expert_parallel: bool = option(
        False, "each rank of a stage holds whole experts instead of a part of every expert"
    )
    max_num_seqs: int = option(8, "seats: requests that run at the same time (default: 8)", least=1)
    max_model_len: int | None = option(
        None, "tokens of prompt and output (default: the model's limit)", least=1
    )
    num_blocks: int | None = option(
        None, "cache blocks (default: full length in every seat, or what fits)", least=1
    )
    block_size: int = option(16, "tokens per cache block, a multiple of 16 (default: 16)", least=1)
    prefix_caching: bool = option(
        True,
        "compute every prompt as a whole, also where an earlier one began in the same way",
        flag="--no-prefix-caching",
        negated=True,
    )
    speculation: str = option(
        "none",
        "draft tokens that one step verifies: ngram from the text so far, mtp by the model's own"
        " layer (default: none)",
        choices=SPECULATIONS,
    )
    max_drafts: int = option(
        4, "draft tokens per request and step (default: 4; mtp drafts one)", least=1
    )
    sleep_mode: bool = option(
        False,
        "serve POST /sleep and /wake_up, which free and restore the memory of an idle server",
        flag="--enable-sleep-mode",
    )
    expert_mass: float | None = option(
        None,
        "each token uses the smallest set of experts that reaches this share of the router's scores"
        " (default: the model's own number)",
        group="experts",
        least=0,
        most=1,
    )
    min_experts: int = option(
        2, "experts of a token at least, with --expert-mass (default: 2)", group="experts", least=1
    )
    max_experts: int = option(
        8, "experts of a token at most, with --expert-mass (default: 8)", group="experts", least=1
    )
    resident_experts: float = option(
        1.0,
        "share of the experts in memory; the others are mapped from a packed file (default: 1)",
        group="experts",
        least=0,
        most=1,
    )
    expert_profile: str | None = option(
        None,
        "measured uses that choose the experts in memory (default: the first ones of each layer)",
        group="experts",
    )
    expert_folder: str | None = option(
        None,
        "folder of the packed file, on a disk (default: the system's temporary folder)",
        group="experts",
    )
    max_step_tokens: int = option(256, "token budget of one engine step (default: 256)", least=1)
    threads: int | None = option(
        None, "CPU threads (default: chosen by a measurement at start)", least=0
    )
    attention_sparsity: float | None = option(
        None,
        "share of the units that coarse scores drop, 0 to 1 (default: dense attention)",
        least=0,
        most=1,
        group=SPARSITY,
    )
    adaptive_sparsity: bool = option(
        False,
        "of the remaining units read the fewest that hold --sparsity-mass of the coarse mass",
        group=SPARSITY,
    )
    sparsity_range: tuple[float, ...] = option(
        (0.3, 0.7),
        "lowest and highest share of the remaining units that --adaptive-sparsity drops"
        " (default: 0.3,0.7)",
        group=SPARSITY,
    )
    sparsity_mass: float = option(
        0.9,
        "share of the coarse mass that --adaptive-sparsity holds (default: 0.9)",
        least=0,
        most=1,
        group=SPARSITY,
    )
    sparsity_correction: bool = option(
        False,
        "estimate the units that are not read from their mean key and mean value",
        group=SPARSITY,
    )
    sparse_from: int = option(
        2048,
        "tokens of context from which attention is sparse (default: 2048)",
        least=1,
        group=SPARSITY,
    )
    sparse_prompts: bool = option(
        False,
        "prompts attend sparsely, too: 16 tokens share a selection (default: generated tokens only)",
        group=SPARSITY,
    )
    attention_window: int | None = option(
        None,
        "tokens that window heads read beside the sinks; without --attention-sparsity, all heads",
        least=1,
        group=SPARSITY,
    )
    attention_sinks: int = option(
        16, "first tokens that every token reads (default: 16)", least=0, group=SPARSITY
    )
    attention_heads: str = option(
        "",
        "file with the mode of each key head: dense, sparse or window (default: attention_heads.json"
        " beside the checkpoint, where it exists); python -m r1_runtime.profiling.attention_heads writes it",
        group=SPARSITY,
    )

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for each, described in described_fields(type(self)):
            value = _checked(getattr(self, each.name), hints[each.name], each.name, described)
            object.__setattr__(self, each.name, value)
        if self.block_size % 16:
            raise OptionError(
                f"command line: --block-size is {self.block_size}; it must be a multiple of 16."
            )
        if len(self.sparsity_range) != 2:
            raise OptionError(
                f"command line: --sparsity-range is {','.join(map(str, self.sparsity_range))}; it must"
                " be two numbers, such as 0.3,0.7."
            )
        # A step has room for one token of each seat.
        most = max(self.max_step_tokens, self.max_num_seqs)
        object.__setattr__(self, "max_step_tokens", most)

    @classmethod
    def from_arguments(cls, given: argparse.Namespace, **further: Any) -> Self:
        """From parsed arguments of `add_options`, with values of fields that are no options."""
        named = {each.name: getattr(given, each.name) for each, _ in described_fields(cls)}
        return cls(**named, **further)

    def arguments(self) -> list[str]:
        """The command line that has this configuration: the model, and what is not the default."""
        words = []
        for each, described in described_fields(R1Config):
            value = getattr(self, each.name)
            if value == each.default:
                continue
            words.append(flag_of(each.name, described))
            if not isinstance(value, bool):
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                words.append(text)
        return words


def described_fields(cls: type) -> Iterator[tuple[Field[Any], Option]]:
    """The fields of a dataclass that are options."""
    for each in fields(cls):
        described = each.metadata.get("option")
        if described is not None:
            yield each, described


def flag_of(name: str, described: Option) -> str:
    """The command line option of a field."""
    return described.flag or "--" + name.replace("_", "-")


def add_options(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add the option of every field of a dataclass to a parser.

    Defaults and valid values are those of the fields. Numbers are checked by the dataclass, so that
    the command line and Python report the same error.
    """
    hints = typing.get_type_hints(cls)
    groups: dict[str, _OptionContainer] = {"": parser}
    for each, described in described_fields(cls):
        if described.group not in groups:
            title = described.group
            groups[title] = parser.add_argument_group(title, GROUPS[title])
        settings: dict[str, Any] = {"dest": each.name, "help": described.help}
        if each.default is MISSING:
            settings["required"] = True
        else:
            settings["default"] = list(each.default) if described.repeated else each.default
        kind = _kind(hints[each.name])
        if kind is bool:
            settings["action"] = "store_false" if described.negated else "store_true"
        elif described.repeated:
            settings["action"] = "append"
        elif kind is tuple:
            settings |= {"type": _numbers, "metavar": "LOW,HIGH"}
        else:
            settings["type"] = str.lower if described.choices else kind
        flag = flag_of(each.name, described)
        if described.choices:
            settings["choices"] = described.choices
        elif kind is not bool:
            settings.setdefault("metavar", flag.removeprefix("--").replace("-", "_").upper())
        groups[described.group].add_argument(flag, **settings)


def _kind(hint: Any) -> type:
    """The plain type of a field; None is left out."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        [hint] = [each for each in typing.get_args(hint) if each is not types.NoneType]
    kind: type = typing.get_origin(hint) or hint
    return kind


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


_NAMES: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    tuple: "a list",
}


def _checked(value: Any, hint: Any, name: str, described: Option) -> Any:
    """The value of a field as its type; raises OptionError outside of its valid values."""
    flag, kind = flag_of(name, described), _kind(hint)
    if value is None and type(None) in typing.get_args(hint):
        return None
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple and isinstance(value, list):
        value = tuple(value)
    if type(value) is not kind:
        raise OptionError(f"command line: {flag} is {value!r}; it must be {_NAMES[kind]}.")
    if described.choices:
        value = str(value).lower()
        if value not in described.choices:
            valid = ", ".join(described.choices)
            raise OptionError(f"command line: {flag} is {value!r}; it must be one of {valid}.")
    if described.least is not None and not value >= described.least:
        raise OptionError(
            f"command line: {flag} is {value}; it must be at least {described.least}."
        )
    if described.most is not None and not value <= described.most:
        raise OptionError(f"command line: {flag} is {value}; it must be at most {described.most}.")
    return value

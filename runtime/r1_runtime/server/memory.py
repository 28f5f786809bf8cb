"""Whether model and cache fit into memory, before anything large is allocated.

A cache that does not fit is not refused by the allocator: its pages are taken when they are first
written, which is under load, and the kernel then kills the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r1_runtime.config import ModelConfig
from r1_runtime.errors import OptionError

_GIB = 2**30
_MARGIN_BYTES = 192 * 2**20  # threads, HTTP, allocator; the imported libraries are in use already
_BYTES = {"float32": 4, "bfloat16": 2}
_LOGIT_COPIES = 3  # logits, probabilities and their sorted copy, float32


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the user chose, or left to the model.

    Attributes:
        max_num_seqs: requests that run at once.
        max_model_len: tokens of prompt and output together.
        max_step_tokens: tokens computed in one step.
        block_size: tokens per cache block.
        num_blocks: cache blocks, or None for enough for every seat.
    """

    max_num_seqs: int
    max_model_len: int
    max_step_tokens: int
    block_size: int
    num_blocks: int | None

    @property
    def blocks_per_sequence(self) -> int:
        """Blocks of one sequence of the full length."""
        return -(-self.max_model_len // self.block_size)

    @property
    def wanted_blocks(self) -> int:
        """The user's number, or as many as let every seat be full."""
        return self.num_blocks or self.blocks_per_sequence * self.max_num_seqs


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes: of the weights (while they load), of a step's tensors, and of one cache block."""

    weights: int
    step: int
    block: int

    def total(self, blocks: int) -> int:
        return self.weights + self.step + blocks * self.block + _MARGIN_BYTES


def memory_need(config: ModelConfig, sizes: Sizes, dtype: str) -> MemoryNeed:
    """The bytes that a model of this shape needs in `dtype`.

    A step's largest tensors are, of one layer: the cache of all decoding sequences, gathered and
    padded to the longest, or the expanded keys and values of one sequence that is prefilled.
    """
    size = _BYTES[dtype]
    parameters = config.parameter_count()
    stored = parameters * _BYTES.get(config.dtype or "", 2)
    heads = config.num_attention_heads * (config.qk_head_dim + config.v_head_dim)
    decode = sizes.max_num_seqs * sizes.max_model_len * config.latent_dim * size
    prefill = sizes.max_model_len * (2 * heads * size + sizes.max_step_tokens)
    logits = _LOGIT_COPIES * 4 * sizes.max_num_seqs * config.vocab_size
    widest = max(config.intermediate_size, heads, config.num_experts_per_tok * config.hidden_size)
    rows = 4 * sizes.max_step_tokens * widest * size
    return MemoryNeed(
        # Stored tensors are converted one by one, so the two copies overlap by one tensor.
        weights=max(stored, parameters * size),
        step=max(decode, prefill) + logits + rows,
        block=config.num_hidden_layers * sizes.block_size * config.latent_dim * size,
    )


def fitting_blocks(need: MemoryNeed, sizes: Sizes, available: int | None) -> int:
    """The number of cache blocks to allocate.

    A number that the user gave must fit. Without one, what fits of enough for every seat is taken,
    at least one sequence of the full length.

    Args:
        need: of model, step and block.
        sizes: the user's.
        available: bytes, or None where this cannot be measured.

    Raises:
        OptionError: naming figures and options.
    """
    least, wanted = sizes.blocks_per_sequence, sizes.wanted_blocks
    if wanted < least:
        raise OptionError(
            f"command line: --num-blocks {wanted} holds {wanted * sizes.block_size} tokens, less "
            f"than --max-model-len {sizes.max_model_len}. Fix: at least {least} blocks."
        )
    if available is None or need.total(wanted) <= available:
        return wanted
    room = (available - need.total(0)) // need.block
    if sizes.num_blocks is None and room >= least:
        return room
    raise OptionError(_refusal(need, sizes, wanted if sizes.num_blocks else least, room, available))


def _refusal(need: MemoryNeed, sizes: Sizes, blocks: int, room: int, available: int) -> str:
    least = sizes.blocks_per_sequence
    fixes = [f"a memory limit of at least {_gib(need.total(blocks))}"]
    if room >= least:
        fixes.insert(0, f"--num-blocks at most {room}")
    elif need.weights + _MARGIN_BYTES < available:
        fixes.insert(0, "a lower --max-model-len or --max-num-seqs")
    return (
        f"memory: weights {_gib(need.weights)}, cache {_gib(blocks * need.block)} ({blocks} blocks "
        f"of {sizes.block_size} tokens), one step {_gib(need.step)} and a margin of "
        f"{_gib(_MARGIN_BYTES)} need {_gib(need.total(blocks))}, but {_gib(available)} are "
        f"available (--max-num-seqs {sizes.max_num_seqs}, --max-model-len {sizes.max_model_len}). "
        f"Fix: {', or '.join(fixes)}."
    )


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f} GiB"


def available_memory(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that this process may still allocate, or None where that is not known.

    The smallest of the machine's and of each memory cgroup above this process, version 1 or 2. Page
    cache that the kernel can take back counts as available.
    """
    rooms = [*_machine_room(proc), *_cgroup_rooms(proc, cgroups)]
    return max(0, min(rooms)) if rooms else None


def _machine_room(proc: Path) -> Iterator[int]:
    fields = _fields(proc / "meminfo")
    if "MemAvailable:" in fields:
        yield fields["MemAvailable:"] * 1024


def _cgroup_rooms(proc: Path, cgroups: Path) -> Iterator[int]:
    for base, relative, limit, usage, cache in _memory_cgroups(proc, cgroups):
        # The path is the host's; inside a container only the mount point itself may exist.
        folder = base / relative.strip("/")
        for place in (folder, *folder.parents):
            most, used = _number(place / limit), _number(place / usage)
            if most is not None and used is not None:
                yield most - used + _fields(place / "memory.stat").get(cache, 0)
            if place == base:
                break


def _memory_cgroups(proc: Path, cgroups: Path) -> Iterator[tuple[Path, str, str, str, str]]:
    """(mount, path, file of the limit, file of the usage, field of the cache) of each hierarchy."""
    second = ("memory.max", "memory.current", "inactive_file")
    first = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = ["0::/", "1:memory:/"]
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield (cgroups, path, *second)
        elif "memory" in controllers.split(","):
            yield (cgroups / "memory", path, *first)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" has no number
        return None


def _fields(path: Path) -> dict[str, int]:
    """Lines of a name and a number; empty without the file."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}

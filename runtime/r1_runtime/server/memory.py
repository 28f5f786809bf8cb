"""Memory estimate and size of the cache, computed before the model is loaded.

The allocator does not reject a cache that exceeds the memory: the kernel assigns pages at the first
write, which is under load, and then kills the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r1_runtime.architecture.description import (
    LatentAttention,
    Layer,
    MixtureOfExperts,
    ModelDescription,
)
from r1_runtime.errors import OptionError

_GIB = 2**30
_MARGIN_BYTES = 192 * 2**20  # threads, HTTP, allocator; the imported libraries are in use already
_LOGIT_COPIES = 3  # logits, changed logits and weights, float32


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes from the command line and from the model.

    Attributes:
        max_num_seqs: requests that run at once.
        max_model_len: tokens of prompt and output together.
        max_step_tokens: tokens computed in one step.
        block_size: tokens per cache block.
        num_blocks: cache blocks, or None for full length in every seat.
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
    def requested_blocks(self) -> int:
        """`num_blocks`, or blocks for a full-length sequence in every seat."""
        return self.num_blocks or self.blocks_per_sequence * self.max_num_seqs


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of the weights, of the arrays of a step, and of one cache block."""

    weights: int
    step: int
    block: int

    def total(self, blocks: int) -> int:
        return self.weights + self.step + blocks * self.block + _MARGIN_BYTES


def estimate_memory(
    description: ModelDescription, sizes: Sizes, weights: int, cache_bytes: int
) -> MemoryEstimate:
    """Estimate the bytes that a model of this shape needs.

    Args:
        description: the network.
        sizes: the sizes of the cache and of a step.
        weights: bytes of the packed weights.
        cache_bytes: bytes per value in the cache.
    """
    widest = max(_widest(layer, description.hidden_size) for layer in description.layers)
    logits = _LOGIT_COPIES * 4 * sizes.max_num_seqs * description.vocab_size
    return MemoryEstimate(
        weights=weights,
        step=logits + 4 * sizes.max_step_tokens * widest,
        block=sizes.block_size * description.cache_values_per_token() * cache_bytes,
    )


def _widest(layer: Layer, hidden: int) -> int:
    """Floats per row of a step's arrays of one layer."""
    attention, feed_forward = layer.attention, layer.feed_forward
    if isinstance(attention, LatentAttention):
        heads = 2 * attention.heads * (attention.qk_head_dim + attention.v_head_dim)
    else:
        heads = 3 * attention.heads * attention.head_dim
    if isinstance(feed_forward, MixtureOfExperts):
        inner = feed_forward.experts_per_token * feed_forward.inner + feed_forward.shared_inner
    else:
        inner = feed_forward.inner
    return 3 * hidden + heads + 2 * inner


def choose_block_count(need: MemoryEstimate, sizes: Sizes, available: int | None) -> int:
    """Return the number of cache blocks to allocate.

    A number from the command line must fit. The default is enough for every seat, or what fits, but
    at least one sequence of the full length.

    Args:
        need: the memory estimate.
        sizes: the sizes of the cache and of a step.
        available: available bytes, or None where they cannot be measured.

    Raises:
        OptionError: with the figures and the options to change.
    """
    least, requested = sizes.blocks_per_sequence, sizes.requested_blocks
    if requested < least:
        raise OptionError(
            f"command line: --num-blocks {requested} holds {requested * sizes.block_size} tokens, less "
            f"than --max-model-len {sizes.max_model_len}. Fix: at least {least} blocks."
        )
    if available is None or need.total(requested) <= available:
        return requested
    fitting = (available - need.total(0)) // need.block
    if sizes.num_blocks is None and fitting >= least:
        return fitting
    blocks = requested if sizes.num_blocks else least
    raise OptionError(_too_little_memory(need, sizes, blocks, fitting, available))


def _too_little_memory(
    need: MemoryEstimate, sizes: Sizes, blocks: int, fitting: int, available: int
) -> str:
    least = sizes.blocks_per_sequence
    fixes = [f"a memory limit of at least {size_text(need.total(blocks))}"]
    if fitting >= least:
        fixes.insert(0, f"--num-blocks at most {fitting}")
    elif need.weights + _MARGIN_BYTES < available:
        fixes.insert(0, "a lower --max-model-len or --max-num-seqs")
    return (
        f"memory: weights {size_text(need.weights)}, cache {size_text(blocks * need.block)} ({blocks} blocks "
        f"of {sizes.block_size} tokens), one step {size_text(need.step)} and a margin of "
        f"{size_text(_MARGIN_BYTES)} need {size_text(need.total(blocks))}, but {size_text(available)} are "
        f"available (--max-num-seqs {sizes.max_num_seqs}, --max-model-len {sizes.max_model_len}). "
        f"Fix: {', or '.join(fixes)}."
    )


def size_text(size: int) -> str:
    """Bytes for people: MiB below a GiB."""
    return f"{size / _GIB:.2f} GiB" if size >= _GIB else f"{size / 2**20:.1f} MiB"


def available_memory(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that this process may still allocate, or None where they are not known.

    The minimum over the machine and each memory cgroup above this process, version 1 or 2. Page
    cache that the kernel can reclaim counts as available.
    """
    free = [*_machine_free(proc), *_cgroup_free(proc, cgroups)]
    return max(0, min(free)) if free else None


def _machine_free(proc: Path) -> Iterator[int]:
    fields = _fields(proc / "meminfo")
    if "MemAvailable:" in fields:
        yield fields["MemAvailable:"] * 1024


def _cgroup_free(proc: Path, cgroups: Path) -> Iterator[int]:
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
    """Mount, path, limit file, usage file and field of the page cache of each hierarchy."""
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
    """Name and number of each line; empty without the file."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}

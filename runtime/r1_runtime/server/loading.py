"""Start of the engine from the options, in the background while the server already listens.

torch is imported for the reference backend only: the import takes seconds and hundreds of MiB.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from r1_runtime.architecture.description import ModelDescription
from r1_runtime.backends.cpu.backend import CpuBackend, packed_bytes
from r1_runtime.backends.parallel.assignment import Assignment
from r1_runtime.backends.parallel.group import RankGroup, check_gpus
from r1_runtime.backends.parallel.layout import check_layout, rank_layers
from r1_runtime.backends.parallel.slices import weight_slices
from r1_runtime.backends.selection import BackendChoice, choose_backend
from r1_runtime.backends.step_plan import Backend
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.checkpoint.source import Checkpoint
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.runner import Runner
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.errors import OptionError, RankLostError
from r1_runtime.generation_config import GenerationDefaults, read_generation_defaults
from r1_runtime.server.limits import Limits
from r1_runtime.server.measure import measure_threads
from r1_runtime.server.memory import (
    MemoryEstimate,
    Sizes,
    available_memory,
    choose_block_count,
    estimate_memory,
)
from r1_runtime.server.options import ServeOptions, resolve_model
from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer
from r1_runtime.tokenizer.open import open_tokenizer

if TYPE_CHECKING:
    from r1_runtime.backends.parallel.leader import ParallelBackend
    from r1_runtime.engine.messages import Deliver

_log = logging.getLogger("r1_runtime")


@dataclass(slots=True)
class StartupTimes:
    """Seconds of each phase of the start-up."""

    seconds: dict[str, float]
    last: float  # `time.perf_counter` at the end of the previous phase

    def end(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self.last, 3)
        self.last = now

    def line(self) -> str:
        parts = " ".join(f"{name}={value:.2f}" for name, value in self.seconds.items())
        return f"{parts} total={sum(self.seconds.values()):.2f}"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model: engine, tokenizer and limits of the service."""

    engine: Engine
    tokenizer: ChatTokenizer
    limits: Limits
    defaults: GenerationDefaults
    description: str
    close: Callable[[], None]
    """ends the other ranks of a divided model"""


_PREFILL_TOKENS, _DECODE_STEPS = 64, 4  # of the measured steps


def load(
    options: ServeOptions,
    deliver: Deliver,
    phases: StartupTimes,
    lost: Callable[[RankLostError], None],
) -> LoadedModel:
    """Load the model and start its engine.

    Args:
        options: the command line.
        deliver: accepts the engine's outputs.
        phases: durations of the start-up.
        lost: called when another rank of a divided model ends.

    Raises:
        RankLostError: another rank of the model did not start or did not load.
        ModelLoadError: the checkpoint does not load.
        OptionError: an option does not fit the model or the machine.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    path, checkpoint, choice = open_and_choose(options)
    description = checkpoint.description
    defaults = read_generation_defaults(path)
    for reason in choice.reasons:
        _log.info("%s", reason)
    phases.end("checkpoint")
    ends = (*description.eos_token_ids, *defaults.eos_ids)
    tokenizer = open_tokenizer(path, description.vocab_size, ends)
    phases.end("tokenizer")
    sizes = _sizes(options, description)
    need = _memory(checkpoint, sizes, choice, options.group)
    blocks = choose_block_count(need, sizes, _available(choice))
    if blocks < sizes.requested_blocks:
        _log.warning(
            "The cache has %d blocks, the most that memory allows; %d blocks would hold a full-length"
            " sequence in each of the %d seats",
            blocks,
            sizes.requested_blocks,
            sizes.max_num_seqs,
        )
    threads = options.threads or max(1, options.cpus // len(options.group.local_ranks))
    close: Callable[[], None] = _nothing
    if options.group.layout.ranks > 1:
        divided = _divided(path, choice, options, blocks, threads, lost)
        backend: Backend = divided
        close = divided.close
    else:
        backend = _backend(checkpoint, choice, options.group, sizes, blocks, threads)
    phases.end("weights")
    runner = Runner(backend, options.block_size, tokenizer.eos_ids)
    limit = min(sizes.max_model_len, blocks * options.block_size)
    runner.dummy_run(1, 1, limit)  # so that no request waits for first-time set-up
    if not options.threads and choice.device == "cpu" and options.group.layout.ranks == 1:
        threads, line = measure_threads(
            backend.set_threads,
            lambda: runner.dummy_run(_PREFILL_TOKENS, _DECODE_STEPS, limit),
            options.cpus,
        )
        _log.info("%s", line)
    phases.end("warm-up")
    scheduler = Scheduler(
        BlockPool(blocks, options.block_size),
        options.max_num_seqs,
        options.max_step_tokens,
        prefix_caching=options.prefix_caching,
    )
    engine = Engine(scheduler, runner, tokenizer.decode, tokenizer.eos_ids, deliver)
    engine.start()
    limits = Limits(
        max_model_len=sizes.max_model_len,
        max_in_flight=options.max_num_seqs + options.max_waiting,
        vocabulary=description.vocab_size,
        block_count=blocks,
        block_size=options.block_size,
    )
    text = (
        f"{path.name}: {description.parameter_count() / 1e6:.1f} M parameters, "
        f"{need.weights / 2**20:.0f} MiB of weights, {choice.backend} backend on {choice.device}, "
        f"{threads} threads, {blocks} cache blocks of {options.block_size} tokens, "
        f"at most {sizes.max_model_len} tokens per request"
    )
    return LoadedModel(engine, tokenizer, limits, defaults, text, close)


def _nothing() -> None:
    """A model in one process has no other ranks."""


def open_and_choose(options: ServeOptions) -> tuple[Path, Checkpoint, BackendChoice]:
    """The model's path, its open checkpoint, and what will compute it."""
    path = resolve_model(options.model_path)
    checkpoint = open_checkpoint(path, positions=options.max_model_len)
    choice = choose_backend(
        checkpoint,
        backend=options.backend,
        device=options.device,
        dtype=options.dtype,
        quantization=options.quantization,
        cache_dtype=options.kv_cache_dtype,
        ranks=options.group.layout.ranks,
    )
    check_layout(checkpoint.description, options.group.layout)
    return path, checkpoint, choice


def explain_plan(options: ServeOptions) -> str:
    """What would compute the model, and why; the weights are not read."""
    path, checkpoint, choice = open_and_choose(options)
    description, sizes = checkpoint.description, _sizes(options, checkpoint.description)
    need = _memory(checkpoint, sizes, choice, options.group)
    layout = options.group.layout
    gib = 2**30
    lines = [
        (
            f"{path.name}: {description.family}, {description.parameter_count() / 1e6:.1f} M "
            f"parameters, {len(description.layers)} layers"
        ),
        *choice.reasons,
        *([layout.describe()] if layout.ranks > 1 else []),
        (
            f"Weights need {need.weights / gib:.2f} GiB, a cache of {sizes.requested_blocks} blocks "
            f"{sizes.requested_blocks * need.block / gib:.2f} GiB, a step {need.step / gib:.2f} GiB."
        ),
        f"Threads: {options.threads} by --threads."
        if options.threads
        else f"Threads: measured at start, at most {options.cpus}.",
    ]
    return "\n".join(lines)


def _backend(
    checkpoint: Checkpoint,
    choice: BackendChoice,
    group: RankGroup,
    sizes: Sizes,
    blocks: int,
    threads: int,
) -> Backend:
    if choice.backend == "cpu":
        return CpuBackend(
            checkpoint,
            codecs=choice.codecs,
            cache_type=choice.cache_type,
            blocks=blocks,
            block_size=sizes.block_size,
            max_positions=sizes.max_model_len,
            threads=threads,
        )
    _prepare_torch(choice, group, threads)
    import torch

    from r1_runtime.backends.reference.backend import ReferenceBackend
    from r1_runtime.backends.reference.loading import load_network

    dtype = getattr(torch, choice.dtype)
    network = load_network(checkpoint, dtype=dtype, device=choice.device)
    return ReferenceBackend(network, blocks, sizes.block_size)


def _divided(
    path: Path,
    choice: BackendChoice,
    options: ServeOptions,
    blocks: int,
    threads: int,
    lost: Callable[[RankLostError], None],
) -> ParallelBackend:
    """A model over several ranks, all of them loaded."""
    _prepare_torch(choice, options.group, threads)
    from r1_runtime.backends.parallel.leader import start_parallel

    assignment = Assignment(
        model=str(path),
        layout=options.group.layout,
        positions=options.max_model_len,
        dtype=choice.dtype,
        device=choice.device,
        blocks=blocks,
        block_size=options.block_size,
        threads=threads,
    )
    return start_parallel(options.group, assignment, lost)


def _prepare_torch(choice: BackendChoice, group: RankGroup, threads: int) -> None:
    """Import torch with its thread count, and compare the ranks with the GPUs."""
    _prepare_environment(threads)
    import torch

    if choice.device != "cpu":
        if not torch.cuda.is_available():
            raise OptionError(
                f"command line: --device {choice.device} is not available here. Fix: --device cpu."
            )
        check_gpus(group, choice.device, torch.cuda.device_count())
    torch.set_num_threads(threads)


def _memory(
    checkpoint: Checkpoint, sizes: Sizes, choice: BackendChoice, group: RankGroup
) -> MemoryEstimate:
    """Memory of this process; on a CPU, of all ranks on this machine."""
    if choice.backend == "cpu":
        weights = packed_bytes(checkpoint, choice.codecs)
        return estimate_memory(checkpoint.description, sizes, weights, choice.cache_type.size)
    size = 4 if choice.dtype == "float32" else 2
    if group.layout.ranks == 1:
        weights = checkpoint.description.parameter_count() * size
        return estimate_memory(checkpoint.description, sizes, weights, size)
    each = [
        _rank_memory(checkpoint.description, sizes, group, rank, size) for rank in group.local_ranks
    ]
    combine = sum if choice.device == "cpu" else max
    return MemoryEstimate(
        weights=combine(need.weights for need in each),
        step=combine(need.step for need in each),
        block=combine(need.block for need in each),
    )


def _rank_memory(
    description: ModelDescription, sizes: Sizes, group: RankGroup, rank: int, size: int
) -> MemoryEstimate:
    layout = group.layout
    layers = rank_layers(description, layout, layout.place(rank).stage)
    weights = sum(piece.size for piece in weight_slices(description, layout, rank).values()) * size
    return estimate_memory(
        replace(description, layers=tuple(layers.values())), sizes, weights, size
    )


def _prepare_environment(threads: int) -> None:
    """Set the environment variables that thread pools read when torch is imported.

    OpenMP threads spin while they wait for work, by default for milliseconds. On cores that other
    processes use too, the spinning makes a step many times slower. Without spinning, the kernel
    wakes the threads for each of a step's hundreds of short parallel sections. Threads therefore
    spin for about the pause between two sections (tens of microseconds). GNU OpenMP (torch's build)
    reads GOMP_SPINCOUNT; Intel's and LLVM's read KMP_BLOCKTIME in milliseconds. Variables that are
    already set stay unchanged.
    """
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        os.environ.setdefault("KMP_BLOCKTIME", "0")


def _sizes(options: ServeOptions, description: ModelDescription) -> Sizes:
    """The sizes of cache and steps."""
    positions = description.max_positions
    if options.max_model_len is not None and options.max_model_len > positions:
        raise OptionError(
            f"command line: --max-model-len is {options.max_model_len}, but this model has "
            f"{positions} positions. Fix: at most {positions}."
        )
    return Sizes(
        max_num_seqs=options.max_num_seqs,
        max_model_len=description.max_positions,
        max_step_tokens=options.max_step_tokens,
        block_size=options.block_size,
        num_blocks=options.num_blocks,
    )


def _available(choice: BackendChoice) -> int | None:
    """Available bytes for weights and cache: of the GPU, or of this process."""
    if choice.device == "cpu":
        return available_memory()
    import torch

    return int(torch.cuda.mem_get_info(choice.device)[0])

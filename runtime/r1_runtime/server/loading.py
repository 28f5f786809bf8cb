"""Start of the engine from the options, in the background while the server already listens.

torch is imported for the backends `cuda` and `reference` only: the import takes seconds and hundreds
of MiB.
"""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r1_runtime.architecture.description import ModelDescription
from r1_runtime.backends.cpu.backend import CpuBackend, packed_bytes
from r1_runtime.backends.selection import BackendChoice, choose_backend
from r1_runtime.backends.step_plan import Backend
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.checkpoint.source import Checkpoint, Encoding, StoredTensor
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.runner import Runner
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.errors import OptionError
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


_PREFILL_TOKENS, _DECODE_STEPS = 64, 4  # of the measured steps


def load(options: ServeOptions, deliver: Deliver, phases: StartupTimes) -> LoadedModel:
    """Load the model and start its engine.

    Raises:
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
    need = _memory(checkpoint, sizes, choice)
    blocks = choose_block_count(need, sizes, _available(choice))
    if blocks < sizes.requested_blocks:
        _log.warning(
            "The cache has %d blocks, the most that memory allows; %d blocks would hold a full-length"
            " sequence in each of the %d seats",
            blocks,
            sizes.requested_blocks,
            sizes.max_num_seqs,
        )
    threads = options.threads or options.cpus
    backend = _backend(checkpoint, choice, sizes, blocks, threads)
    phases.end("weights")
    runner = Runner(backend, options.block_size, tokenizer.eos_ids)
    limit = min(sizes.max_model_len, blocks * options.block_size)
    runner.dummy_run(1, 1, limit)  # so that no request waits for first-time set-up
    if not options.threads and choice.device == "cpu":
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
    return LoadedModel(engine, tokenizer, limits, defaults, text)


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
    )
    return path, checkpoint, choice


def explain_plan(options: ServeOptions) -> str:
    """What would compute the model, and why; the weights are not read."""
    path, checkpoint, choice = open_and_choose(options)
    description, sizes = checkpoint.description, _sizes(options, checkpoint.description)
    need = _memory(checkpoint, sizes, choice)
    gib = 2**30
    lines = [
        f"{path.name}: {description.family}, {description.parameter_count() / 1e6:.1f} M parameters, "
        f"{len(description.layers)} layers",
        *choice.reasons,
        f"Weights need {need.weights / gib:.2f} GiB, a cache of {sizes.requested_blocks} blocks "
        f"{sizes.requested_blocks * need.block / gib:.2f} GiB, a step {need.step / gib:.2f} GiB.",
        f"Threads: {options.threads} by --threads."
        if options.threads
        else f"Threads: measured at start, at most {options.cpus}.",
    ]
    return "\n".join(lines)


def _backend(
    checkpoint: Checkpoint, choice: BackendChoice, sizes: Sizes, blocks: int, threads: int
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
    _prepare_environment(threads)
    import torch

    if choice.device != "cpu" and not torch.cuda.is_available():
        raise OptionError(
            f"command line: --device {choice.device} is not available here. Fix: --device cpu."
        )
    torch.set_num_threads(threads)
    dtype = getattr(torch, choice.dtype)
    if choice.backend == "cuda":
        from r1_runtime.backends.cuda.backend import CudaBackend

        return CudaBackend(
            checkpoint,
            blocks=blocks,
            block_size=sizes.block_size,
            max_positions=sizes.max_model_len,
            max_sequences=sizes.max_num_seqs,
            device=choice.device,
            dtype=dtype,
            int4_experts=choice.int4_experts,
        )
    from r1_runtime.backends.reference.backend import ReferenceBackend
    from r1_runtime.backends.reference.loading import load_network

    network = load_network(checkpoint, dtype=dtype, device=choice.device)
    return ReferenceBackend(network, blocks, sizes.block_size)


def _memory(checkpoint: Checkpoint, sizes: Sizes, choice: BackendChoice) -> MemoryEstimate:
    if choice.backend == "cpu":
        weights = packed_bytes(checkpoint, choice.codecs)
        return estimate_memory(checkpoint.description, sizes, weights, choice.cache_type.size)
    size = 4 if choice.dtype == "float32" else 2
    weights = checkpoint.description.parameter_count() * size
    if choice.backend == "cuda":
        weights = sum(
            _cuda_bytes(checkpoint.tensor(name), size, choice) for name in checkpoint.names()
        )
    return estimate_memory(checkpoint.description, sizes, weights, size)


def _cuda_bytes(stored: StoredTensor, size: int, choice: BackendChoice) -> int:
    """Bytes of a tensor on the GPU: FP8 and INT4 with float32 factors for 128 and 32 values of a row."""
    values = math.prod(stored.shape)
    if stored.encoding is Encoding.F8_E4M3:
        return values + 4 * -(-values // 128)
    if choice.int4_experts and ".mlp.experts." in stored.name:
        return values // 2 + 4 * -(-values // 32)
    return values * size


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

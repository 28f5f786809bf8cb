"""Start of the engine from the options, in the background while the server already listens.

torch is imported here and nowhere earlier: the import is most of a pod's start-up time, and `/health`
must respond during it.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from r1_runtime.config import ModelConfig, read_config
from r1_runtime.errors import OptionError
from r1_runtime.generation_config import GenerationDefaults, read_generation_defaults
from r1_runtime.server.limits import Limits
from r1_runtime.server.memory import Sizes, available_memory, choose_block_count, estimate_memory
from r1_runtime.server.options import ServeOptions, resolve_model

if TYPE_CHECKING:
    from r1_runtime.engine.engine import Engine
    from r1_runtime.engine.messages import Deliver
    from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer

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


def load(options: ServeOptions, deliver: Deliver, phases: StartupTimes) -> LoadedModel:
    """Load the model and start its engine.

    Raises:
        ModelLoadError: the checkpoint does not load.
        OptionError: an option does not fit the model or the machine.
    """
    folder = resolve_model(options.model_path)
    config = read_config(folder)
    defaults = read_generation_defaults(folder)
    config = replace(config, eos_token_ids=(*config.eos_token_ids, *defaults.eos_ids))
    sizes = _sizes(options, config)
    _prepare_environment(options.threads or options.cpus)
    import torch

    phases.end("torch")
    from r1_runtime.engine.blocks import BlockPool
    from r1_runtime.engine.engine import Engine
    from r1_runtime.engine.runner import Runner
    from r1_runtime.engine.scheduler import Scheduler
    from r1_runtime.models.loader import load_model
    from r1_runtime.server.measure import measure_threads
    from r1_runtime.tokenizer.open import open_tokenizer

    torch.set_num_threads(options.threads or options.cpus)
    device = _device(options.device)
    tokenizer = open_tokenizer(folder, config.vocab_size, config.eos_token_ids)
    phases.end("tokenizer")
    available = _available(device)
    dtype = _dtype(options.dtype, device, config, sizes, available)
    blocks = choose_block_count(estimate_memory(config, sizes, dtype), sizes, available)
    if blocks < sizes.requested_blocks:
        _log.warning(
            "The cache has %d blocks, the most that memory allows; %d blocks would hold a full-length"
            " sequence in each of the %d seats",
            blocks,
            sizes.requested_blocks,
            sizes.max_num_seqs,
        )
    phases.end("measure")
    model = load_model(
        folder,
        dtype=getattr(torch, dtype),
        device=device,
        max_length=sizes.max_model_len,
        config=config,
    )
    phases.end("weights")
    runner = Runner(model, blocks, options.block_size, tokenizer.eos_ids)
    pool = BlockPool(blocks, options.block_size)
    scheduler = Scheduler(pool, options.max_num_seqs, options.max_step_tokens)
    runner.warm_up()
    threads = options.threads
    if not threads:
        if device == "cpu":
            threads, line = measure_threads(runner, options.cpus)
            _log.info("%s", line)
        else:
            threads = options.cpus
    phases.end("warm-up")
    engine = Engine(scheduler, runner, tokenizer.decode, tokenizer.eos_ids, deliver)
    engine.start()
    limits = Limits(
        max_model_len=sizes.max_model_len,
        max_in_flight=options.max_num_seqs + options.max_waiting,
        vocabulary=config.vocab_size,
        block_count=blocks,
        block_size=options.block_size,
    )
    description = (
        f"{folder.name}: {config.parameter_count() / 1e6:.1f} M parameters, {dtype} on {device}, "
        f"{threads} threads, {blocks} cache blocks of {options.block_size} tokens, "
        f"at most {sizes.max_model_len} tokens per request"
    )
    return LoadedModel(engine, tokenizer, limits, defaults, description)


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
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _sizes(options: ServeOptions, config: ModelConfig) -> Sizes:
    positions = config.max_position_embeddings
    if options.max_model_len is not None and options.max_model_len > positions:
        raise OptionError(
            f"command line: --max-model-len is {options.max_model_len}, but this model has "
            f"{positions} positions. Fix: at most {positions}."
        )
    return Sizes(
        max_num_seqs=options.max_num_seqs,
        max_model_len=options.max_model_len or positions,
        max_step_tokens=options.max_step_tokens,
        block_size=options.block_size,
        num_blocks=options.num_blocks,
    )


def _available(device: str) -> int | None:
    """Available bytes for weights and cache: of the GPU, or of this process."""
    if device == "cpu":
        return available_memory()
    import torch

    return int(torch.cuda.mem_get_info(device)[0])


def _device(wanted: str) -> str:
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return "cpu"
    if wanted.split(":")[0] != "cuda" or not torch.cuda.is_available():
        raise OptionError(f"command line: --device {wanted} is not available here. Fix: use auto.")
    return wanted


def _dtype(
    wanted: str, device: str, config: ModelConfig, sizes: Sizes, available: int | None
) -> str:
    if wanted != "auto":
        return wanted
    if config.dtype == "float32" or device != "cpu":
        chosen = "float32" if config.dtype == "float32" else "bfloat16"
    else:
        from r1_runtime.server.measure import measure_dtype

        choice = measure_dtype(config)
        _log.info("%s", choice.line())
        chosen = choice.dtype
    least = estimate_memory(config, sizes, "float32").total(sizes.blocks_per_sequence)
    if chosen == "float32" and available is not None and least > available:
        _log.info(
            "Using bfloat16: float32 needs %.2f GiB of memory, more than is available",
            least / 2**30,
        )
        return "bfloat16"
    return chosen

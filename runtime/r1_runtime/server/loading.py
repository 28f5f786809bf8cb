"""From options to a running engine, in the background while the server already listens.

torch is imported here and nowhere earlier: it is most of a pod's start-up time, and `/health` must
answer meanwhile.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1_runtime.config import ModelConfig, read_config
from r1_runtime.errors import OptionError
from r1_runtime.server.options import ServeOptions, resolve_model
from r1_runtime.server.service import Limits

if TYPE_CHECKING:
    from r1_runtime.engine.engine import Engine
    from r1_runtime.engine.messages import Deliver
    from r1_runtime.models.tokenizer import ChatTokenizer

# Below this many parameters float32 decodes faster than bfloat16 on a CPU: the matrices fit into
# its caches, and the bfloat16 kernels' set-up per call outweighs their speed (docs/runtime.md).
_SMALL_PARAMETERS = 200_000_000


@dataclass(slots=True)
class Phases:
    """Seconds of each part of the start-up."""

    seconds: dict[str, float]
    last: float  # `time.perf_counter` at the end of the phase before

    def end(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self.last, 3)
        self.last = now

    def line(self) -> str:
        parts = " ".join(f"{name}={value:.2f}" for name, value in self.seconds.items())
        return f"{parts} total={sum(self.seconds.values()):.2f}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the service needs to open."""

    engine: Engine
    tokenizer: ChatTokenizer
    limits: Limits
    description: str


def load(options: ServeOptions, deliver: Deliver, phases: Phases) -> Loaded:
    """Load the model and start its engine.

    Raises:
        ModelLoadError: the checkpoint does not load.
        OptionError: an option does not fit the model or the machine.
    """
    folder = resolve_model(options.model_path)
    config = read_config(folder)
    blocks = _block_count(options, config)
    # Before torch is imported: its thread pools read these once.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    phases.end("torch")
    from r1_runtime.engine.blocks import BlockPool
    from r1_runtime.engine.engine import Engine
    from r1_runtime.engine.runner import Runner
    from r1_runtime.engine.scheduler import Scheduler
    from r1_runtime.models.loader import load_model
    from r1_runtime.models.tokenizer import ChatTokenizer

    torch.set_num_threads(options.threads)
    device = _device(options.device)
    tokenizer = ChatTokenizer(folder, config)
    tokenizer.prepare_template()
    phases.end("tokenizer")
    dtype = _dtype(options.dtype, device, config)
    model = load_model(
        folder,
        dtype=getattr(torch, dtype),
        device=device,
        max_length=options.max_model_len,
        config=config,
    )
    phases.end("weights")
    runner = Runner(model, blocks, options.block_size)
    pool = BlockPool(blocks, options.block_size)
    scheduler = Scheduler(pool, options.max_num_seqs, options.max_step_tokens)
    runner.warm_up()
    phases.end("warm-up")
    engine = Engine(scheduler, runner, tokenizer.decode, tokenizer.eos_ids, deliver)
    engine.start()
    limits = Limits(
        max_model_len=options.max_model_len,
        max_in_flight=options.max_num_seqs + options.max_waiting,
        vocabulary=config.vocab_size,
    )
    description = (
        f"{folder.name}: {_parameters(config) / 1e6:.1f} M parameters, {dtype} on {device}, "
        f"{options.threads} threads, {blocks} blocks of {options.block_size} tokens"
    )
    return Loaded(engine, tokenizer, limits, description)


def _block_count(options: ServeOptions, config: ModelConfig) -> int:
    if options.max_model_len > config.max_position_embeddings:
        raise OptionError(
            f"command line: --max-model-len is {options.max_model_len}, but this model has "
            f"{config.max_position_embeddings} positions. Fix: lower it."
        )
    per_sequence = -(-options.max_model_len // options.block_size)
    if options.num_blocks is None:
        return per_sequence * options.max_num_seqs
    if options.num_blocks < per_sequence:
        raise OptionError(
            f"command line: --num-blocks {options.num_blocks} holds "
            f"{options.num_blocks * options.block_size} tokens, less than --max-model-len "
            f"{options.max_model_len}. Fix: at least {per_sequence} blocks."
        )
    return options.num_blocks


def _device(wanted: str) -> str:
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return "cpu"
    if wanted.split(":")[0] != "cuda" or not torch.cuda.is_available():
        raise OptionError(f"command line: --device {wanted} is not available here. Fix: use auto.")
    return wanted


def _dtype(wanted: str, device: str, config: ModelConfig) -> str:
    if wanted != "auto":
        return wanted
    if device == "cpu" and _parameters(config) < _SMALL_PARAMETERS:
        return "float32"
    return "float32" if config.dtype == "float32" else "bfloat16"


def _parameters(config: ModelConfig) -> int:
    """Parameters of the network, without norms and biases."""
    heads = config.num_attention_heads
    hidden = config.hidden_size
    query = (
        hidden * heads * config.qk_head_dim
        if config.q_lora_rank is None
        else config.q_lora_rank * (hidden + heads * config.qk_head_dim)
    )
    attention = (
        query
        + hidden * config.latent_dim
        + config.kv_lora_rank * heads * (config.qk_nope_head_dim + config.v_head_dim)
        + heads * config.v_head_dim * hidden
    )
    sparse = sum(config.is_moe_layer(index) for index in range(config.num_hidden_layers))
    dense = config.num_hidden_layers - sparse
    experts = config.n_routed_experts + config.n_shared_experts
    embeddings = config.vocab_size * hidden * (1 if config.tie_word_embeddings else 2)
    return (
        embeddings
        + config.num_hidden_layers * attention
        + dense * 3 * hidden * config.intermediate_size
        + sparse * hidden * (3 * config.moe_intermediate_size * experts + config.n_routed_experts)
    )

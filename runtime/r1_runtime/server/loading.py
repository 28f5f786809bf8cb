"""Start of the engine from the options, in the background while the server already listens."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r1_runtime.architecture.description import ModelDescription
from r1_runtime.architecture.weight_names import draft_weight_shapes
from r1_runtime.backends.adaptive_threads import ThreadChoice, thread_candidates
from r1_runtime.backends.parallel.layout import check_layout
from r1_runtime.backends.selection import BackendChoice, choose_backend
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.checkpoint.source import Checkpoint
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.runner import Runner
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.engine.speculation import lookup_drafter
from r1_runtime.errors import ModelLoadError, OptionError, RankLostError
from r1_runtime.experts.residency import ExpertTotals
from r1_runtime.generation_config import GenerationDefaults, read_generation_defaults
from r1_runtime.server.backend_loading import (
    BackendLoader,
    BackendPlan,
    Lost,
    available_bytes,
    prepare_torch,
)
from r1_runtime.server.expert_policy import ExpertPolicy, expert_policy
from r1_runtime.server.limits import Limits
from r1_runtime.server.memory import MemoryEstimate, Sizes, choose_block_count, size_text
from r1_runtime.server.memory_need import memory_need
from r1_runtime.server.options import ServeOptions, resolve_model
from r1_runtime.server.sleep import Sleeper
from r1_runtime.server.sparsity_options import sparsity_policy
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
    sleeper: Sleeper | None
    expert_totals: Callable[[], ExpertTotals]
    close: Callable[[], None]
    """ends the other ranks of a divided model"""


_MEASURED_STEPS = 16  # of one sequence
_MEASURED_SECONDS = 2.0  # at most, until the thread count is chosen


def _log_loss(error: RankLostError) -> None:
    _log.error("%s", error)


def load(
    options: ServeOptions, deliver: Deliver, phases: StartupTimes, lost: Lost = _log_loss
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
    plan, need = backend_plan(options, path, checkpoint, choice)
    counts: ThreadChoice | None = None
    if not options.threads and choice.device == "cpu" and options.group.layout.ranks == 1:
        counts = ThreadChoice(thread_candidates(options.cpus))
    loader = BackendLoader(plan, lost, counts)
    backend = loader.load()
    phases.end("weights")
    runner = Runner(
        backend, options.block_size, tokenizer.eos_ids, model_drafts=plan.with_draft_layer
    )
    limit = min(plan.sizes.max_model_len, plan.blocks * options.block_size)
    runner.dummy_run(1, 1, limit)  # so that no request waits for first-time set-up
    if counts is not None:
        _settle_threads(runner, counts, limit)
    phases.end("warm-up")
    scheduler = _scheduler(options, plan.blocks, runner)
    engine = Engine(
        scheduler, runner, tokenizer.decode, tokenizer.eos_ids, deliver, reads=runner.reads
    )
    engine.start()
    sleeper = Sleeper(engine, scheduler.pool, runner, loader.load) if options.sleep_mode else None
    return LoadedModel(
        engine,
        tokenizer,
        _limits(options, plan),
        defaults,
        _described(plan, need, plan.threads if counts is None else counts.current),
        sleeper,
        loader.expert_totals,
        loader.end_ranks,
    )


def backend_plan(
    options: ServeOptions, path: Path, checkpoint: Checkpoint, choice: BackendChoice
) -> tuple[BackendPlan, MemoryEstimate]:
    """What is loaded, with as many cache blocks as the memory allows, and the memory it needs.

    Raises:
        OptionError: the cache blocks or the weights do not fit, or the options exclude each other.
    """
    sizes = _sizes(options, checkpoint.description)
    drafts = options.speculation == "mtp"
    experts = _experts(options, checkpoint, choice)
    need = memory_need(
        checkpoint, sizes, choice, options.group, with_draft_layer=drafts, experts=experts
    )
    threads = options.threads or max(1, options.cpus // len(options.group.local_ranks))
    if choice.backend != "cpu":
        prepare_torch(choice, options.group, threads)
    blocks = choose_block_count(need, sizes, available_bytes(choice))
    if blocks < sizes.requested_blocks:
        _log.warning(
            "The cache has %d blocks, the most that memory allows; %d blocks would hold a full-length"
            " sequence in each of the %d seats",
            blocks,
            sizes.requested_blocks,
            sizes.max_num_seqs,
        )
    plan = BackendPlan(
        path, checkpoint, choice, options.group, sizes, blocks, threads, drafts, experts
    )
    return plan, need


def _settle_threads(runner: Runner, counts: ThreadChoice, limit: int) -> None:
    """Compute steps until their thread count is chosen; it follows later measurements."""
    until = time.perf_counter() + _MEASURED_SECONDS
    while not counts.settled and time.perf_counter() < until:
        runner.dummy_run(1, _MEASURED_STEPS, limit)
    counts.settled = True
    _log.info("%s", counts.describe())


def _scheduler(options: ServeOptions, blocks: int, runner: Runner) -> Scheduler:
    return Scheduler(
        BlockPool(blocks, options.block_size),
        options.max_num_seqs,
        options.max_step_tokens,
        prefix_caching=options.prefix_caching,
        drafter={"none": None, "ngram": lookup_drafter, "mtp": runner.draft}[options.speculation],
        max_drafts=1 if options.speculation == "mtp" else options.max_drafts,
    )


def _limits(options: ServeOptions, plan: BackendPlan) -> Limits:
    description = plan.checkpoint.description
    return Limits(
        max_model_len=plan.sizes.max_model_len,
        max_in_flight=options.max_num_seqs + options.max_waiting,
        vocabulary=description.vocab_size,
        block_count=plan.blocks,
        block_size=options.block_size,
        hidden_size=description.hidden_size,
    )


def _described(plan: BackendPlan, need: MemoryEstimate, threads: int) -> str:
    """What serves, for the log."""
    choice, layout = plan.choice, plan.group.layout
    ranks = f"{layout.ranks} ranks, " if layout.ranks > 1 else ""
    return (
        f"{plan.path.name}: {plan.checkpoint.description.parameter_count() / 1e6:.1f} M parameters, "
        f"{need.weights / 2**20:.0f} MiB of weights, {choice.backend} backend on {choice.device}, "
        f"{ranks}{threads} threads, {plan.blocks} cache blocks of {plan.sizes.block_size} tokens, "
        f"at most {plan.sizes.max_model_len} tokens per request"
    )


def open_and_choose(options: ServeOptions) -> tuple[Path, Checkpoint, BackendChoice]:
    """The model's path, its open checkpoint, and what will compute it.

    Raises:
        ModelLoadError: the checkpoint does not open, or lacks what an option needs.
        OptionError: the options exclude each other, the model or this machine.
    """
    path = resolve_model(options.base_model)
    checkpoint = open_checkpoint(path, positions=options.max_model_len)
    layout = options.group.layout
    sparsity = sparsity_policy(options, path, checkpoint.description)
    choice = choose_backend(
        checkpoint,
        backend=options.backend,
        device=options.device,
        dtype=options.dtype,
        quantization=options.quantization,
        cache_dtype=options.kv_cache_dtype,
        sparsity=sparsity,
        ranks=layout.ranks,
    )
    check_layout(checkpoint.description, layout)
    if layout.ranks > 1:
        _check_divided(options)
    _experts(options, checkpoint, choice)
    if options.speculation == "mtp":
        _check_draft_layer(checkpoint, choice, path)
    return path, checkpoint, choice


def _experts(options: ServeOptions, checkpoint: Checkpoint, choice: BackendChoice) -> ExpertPolicy:
    return expert_policy(options, checkpoint.description, choice, options.group.layout.ranks)


def _check_divided(options: ServeOptions) -> None:
    """Raise an error for options that a model in one process alone has."""
    ranks = options.group.layout.ranks
    alone = {
        "--enable-sleep-mode": (options.sleep_mode, "without --enable-sleep-mode"),
        "--speculation mtp": (options.speculation == "mtp", "--speculation ngram"),
    }
    for option, (given, instead) in alone.items():
        if given:
            raise OptionError(
                f"command line: {option} needs a model in one process, but {ranks} ranks compute it."
                f" Fix: {instead}, or one rank."
            )


def _check_draft_layer(checkpoint: Checkpoint, choice: BackendChoice, path: Path) -> None:
    """Raise an error where `--speculation mtp` cannot work."""
    if choice.backend == "cuda":
        raise OptionError(
            "command line: --speculation mtp needs the native or the reference backend, but the CUDA"
            " backend serves. Fix: --backend reference, or --speculation ngram."
        )
    lacking = draft_weight_shapes(checkpoint.description).keys() - checkpoint.names()
    if checkpoint.description.draft_layer is None or lacking:
        raise ModelLoadError(
            path,
            "the checkpoint has no layer that drafts tokens (num_nextn_predict_layers).",
            "use --speculation ngram.",
        )


def explain_plan(options: ServeOptions) -> str:
    """What would compute the model, and why; the weights are not read."""
    path, checkpoint, choice = open_and_choose(options)
    description, sizes = checkpoint.description, _sizes(options, checkpoint.description)
    drafts = options.speculation == "mtp"
    experts = _experts(options, checkpoint, choice)
    need = memory_need(
        checkpoint, sizes, choice, options.group, with_draft_layer=drafts, experts=experts
    )
    layout = options.group.layout
    blocks = sizes.requested_blocks
    lines = [
        (
            f"{path.name}: {description.family}, {description.parameter_count() / 1e6:.1f} M "
            f"parameters, {len(description.layers)} layers"
        ),
        *choice.reasons,
        *([layout.describe()] if layout.ranks > 1 else []),
        (
            f"Weights need {size_text(need.weights)}, a cache of {blocks} blocks "
            f"{size_text(blocks * need.block)}, a step {size_text(need.step)}."
        ),
        f"Threads: {options.threads} by --threads."
        if options.threads
        else f"Threads: measured at start, at most {options.cpus}.",
    ]
    return "\n".join(lines)


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

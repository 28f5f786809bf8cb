"""Command line options of `python -m r1_runtime.serve`, and the resolution of model paths."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from r1_common.listen import EVERY_ADDRESS
from r1_runtime.backends.parallel.group import RankGroup, rank_group
from r1_runtime.engine.speculation import MODES
from r1_runtime.errors import ModelLoadError, OptionError
from r1_runtime.output_parsing.tool_calls import PARSERS
from r1_runtime.server.packaged_models import PACKAGED_MODELS, packaged_model
from r1_runtime.server.parser_options import ParserOptions

BUNDLED = "bundled:"
_KEY_VARIABLE = "R1_API_KEY"
_DTYPES = ("auto", "float32", "float16", "bfloat16")
_BACKENDS = ("auto", "cpu", "cuda", "reference")
_QUANTIZATIONS = ("none", "int8", "int4")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Validated options; see `--help` for each."""

    model_path: str
    names: tuple[str, ...]
    host: str
    port: int
    backend: str
    dtype: str
    quantization: str
    kv_cache_dtype: str
    device: str
    group: RankGroup
    prefix_caching: bool
    speculation: str
    max_drafts: int
    sleep_mode: bool
    explain_plan: bool
    max_num_seqs: int
    max_model_len: int | None
    num_blocks: int | None
    block_size: int
    max_step_tokens: int
    max_waiting: int
    drain_seconds: float
    threads: int | None
    cpus: int
    parsers: ParserOptions
    api_keys: tuple[str, ...]


def parse_options(arguments: Sequence[str] | None = None) -> ServeOptions:
    """Read the command line.

    Raises:
        OptionError: with the option and its valid values.
    """
    parser = _Parser(
        prog="python -m r1_runtime.serve", description="Serve one model.", allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "--model-path",
        required=True,
        help="checkpoint folder, GGUF file, or bundled:NAME for a bundled model",
    )
    add(
        "--served-model-name",
        action="append",
        help="model name in requests; repeat the option for aliases",
    )
    add(
        "--host",
        default=EVERY_ADDRESS,
        help="address to listen on; :: is every IPv6 and IPv4 address (default)",
    )
    add("--port", type=int, default=8000, help="port to listen on (default: 8000)")
    add(
        "--dtype",
        choices=_DTYPES,
        type=str.lower,
        default="auto",
        help="data type of the weights (default: auto, as stored)",
    )
    add(
        "--quantization",
        choices=_QUANTIZATIONS,
        default="none",
        help="pack the weights with fewer bits while they load (default: none)",
    )
    add(
        "--kv-cache-dtype",
        choices=_DTYPES,
        type=str.lower,
        default="auto",
        help="data type of the cache (default: auto, float16 unless the weights are float32)",
    )
    add(
        "--backend",
        choices=_BACKENDS,
        default="auto",
        help="cpu: the native library; cuda: GPU kernels; reference: torch"
        " (default: auto, the fastest)",
    )
    add("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    add(
        "--tensor-parallel-size",
        type=int,
        default=1,
        help="ranks (processes, one per GPU) that split every matrix (default: 1)",
    )
    add(
        "--pipeline-parallel-size",
        type=int,
        help="stages, each with adjacent layers (default: one per pod of a LeaderWorkerSet, else 1)",
    )
    add(
        "--expert-parallel",
        action="store_true",
        help="each rank of a stage holds whole experts instead of a part of every expert",
    )
    add(
        "--max-num-seqs",
        type=int,
        default=8,
        help="seats: requests that run at the same time (default: 8)",
    )
    add(
        "--max-model-len", type=int, help="tokens of prompt and output (default: the model's limit)"
    )
    add(
        "--num-blocks",
        type=int,
        help="cache blocks (default: full length in every seat, or what fits)",
    )
    add(
        "--block-size",
        type=int,
        default=16,
        help="tokens per cache block, a multiple of 16 (default: 16)",
    )
    add(
        "--no-prefix-caching",
        action="store_true",
        help="compute every prompt as a whole, also where an earlier one began in the same way",
    )
    add(
        "--speculation",
        choices=MODES,
        default="none",
        help="draft tokens that one step verifies: ngram from the text so far, mtp by the model's own"
        " layer (default: none)",
    )
    add(
        "--max-drafts",
        type=int,
        default=4,
        help="draft tokens per request and step (default: 4; mtp drafts one)",
    )
    add(
        "--enable-sleep-mode",
        action="store_true",
        help="serve POST /sleep and /wake_up, which free and restore the memory of an idle server",
    )
    add(
        "--explain-plan",
        action="store_true",
        help="print what computes the model, and why, and exit",
    )
    add(
        "--max-step-tokens",
        type=int,
        default=256,
        help="token budget of one engine step (default: 256)",
    )
    add(
        "--max-waiting",
        type=int,
        default=256,
        help="queue length; further requests get 429 (default: 256)",
    )
    add(
        "--drain-seconds",
        type=float,
        default=120.0,
        help="seconds for requests in flight after SIGTERM (default: 120)",
    )
    add(
        "--threads",
        type=int,
        default=0,
        help="CPU threads (default: chosen by a measurement at start)",
    )
    add(
        "--tool-call-parser",
        choices=("auto", "none", *PARSERS),
        default="auto",
        help="format of the model's tool calls (default: auto, by the chat template)",
    )
    add(
        "--reasoning-parser",
        choices=("auto", "none", "think"),
        default="auto",
        help="separate <think>...</think> from the content (default: auto, if the model knows it)",
    )
    add(
        "--api-key",
        action="append",
        default=[],
        help=f"key of the endpoints under /v1; repeat the option for several (or {_KEY_VARIABLE})",
    )
    given = parser.parse_args(arguments)
    for name in (
        "max_num_seqs",
        "block_size",
        "max_step_tokens",
        "max_drafts",
        "tensor_parallel_size",
    ):
        _at_least(name, getattr(given, name), 1)
    if given.block_size % 16:
        raise OptionError(
            f"command line: --block-size is {given.block_size}; it must be a multiple of 16."
        )
    for name in ("port", "max_waiting", "drain_seconds", "threads"):
        _at_least(name, getattr(given, name), 0)
    for name in ("num_blocks", "max_model_len", "pipeline_parallel_size"):
        if getattr(given, name) is not None:
            _at_least(name, getattr(given, name), 1)
    names = given.served_model_name or [given.model_path.removeprefix(BUNDLED)]
    return ServeOptions(
        model_path=given.model_path,
        names=tuple(dict.fromkeys(names)),
        host=given.host,
        port=given.port,
        backend=given.backend,
        dtype=given.dtype,
        quantization=given.quantization,
        kv_cache_dtype=given.kv_cache_dtype,
        device=given.device,
        group=rank_group(
            given.tensor_parallel_size,
            given.pipeline_parallel_size,
            given.expert_parallel,
            os.environ,
        ),
        prefix_caching=not given.no_prefix_caching,
        speculation=given.speculation,
        max_drafts=given.max_drafts,
        sleep_mode=given.enable_sleep_mode,
        explain_plan=given.explain_plan,
        max_num_seqs=given.max_num_seqs,
        max_model_len=given.max_model_len,
        num_blocks=given.num_blocks,
        block_size=given.block_size,
        max_step_tokens=max(given.max_step_tokens, given.max_num_seqs),
        max_waiting=given.max_waiting,
        drain_seconds=given.drain_seconds,
        threads=given.threads or None,
        cpus=cpu_limit(),
        parsers=ParserOptions(given.tool_call_parser, given.reasoning_parser),
        api_keys=_api_keys(given.api_key),
    )


def _api_keys(given: Sequence[str]) -> tuple[str, ...]:
    """Keys of the command line, or of the environment (separated by commas)."""
    keys = given or os.environ.get(_KEY_VARIABLE, "").split(",")
    return tuple(key.strip() for key in keys if key.strip())


class _Parser(argparse.ArgumentParser):
    """Raises an error for an invalid option instead of printing the usage."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise OptionError(f"command line: {message}. See --help.")


def _at_least(name: str, value: float, least: int) -> None:
    if value < least:
        option = "--" + name.replace("_", "-")
        raise OptionError(f"command line: {option} is {value}; it must be at least {least}.")


def resolve_model(path: str) -> Path:
    """The folder or file of a model path; `bundled:NAME` comes with this or an optional package.

    Raises:
        ModelLoadError: no model of that name is bundled, or its package is not installed.
    """
    if not path.startswith(BUNDLED):
        return Path(path)
    name = path.removeprefix(BUNDLED)
    if name in PACKAGED_MODELS:
        return packaged_model(name)
    root = Path(str(resources.files("r1_runtime") / "models_bundled"))
    known = sorted([*PACKAGED_MODELS, *(file.parent.name for file in root.glob("*/config.json"))])
    if name not in known:
        raise ModelLoadError(path, "no such bundled model.", f"choose one of: {', '.join(known)}.")
    return root / name


def cpu_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs this process may use: the smaller of its affinity and its cgroup's quota, at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quota = _cgroup_quota(cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _cgroup_quota(cgroup: Path) -> float | None:
    """CPU quota of cgroup v2 or v1; None without a quota."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
        period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return None if int(limit) <= 0 else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None

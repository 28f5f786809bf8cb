"""Command line options of `python -m r1_runtime.serve`, and the resolution of model paths."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from r1_common.listen import EVERY_ADDRESS
from r1_runtime.backends.parallel.group import RankGroup, rank_group
from r1_runtime.config import R1Config, add_options, option
from r1_runtime.errors import ModelLoadError, OptionError
from r1_runtime.output_parsing.tool_calls import PARSERS
from r1_runtime.server.packaged_models import PACKAGED_MODELS, packaged_model
from r1_runtime.server.parser_options import ParserOptions

BUNDLED = "bundled:"
_KEY_VARIABLE = "R1_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(R1Config):
    """The engine's configuration with the settings of the server around it.

    Attributes:
        group: the ranks that compute the model; from the sizes and the environment of a pod.
        cpus: CPUs that this process may use.
    """

    names: tuple[str, ...] = option(
        (),
        "model name in requests; repeat the option for aliases",
        flag="--served-model-name",
        repeated=True,
    )
    host: str = option(
        EVERY_ADDRESS, "address to listen on; :: is every IPv6 and IPv4 address (default)"
    )
    port: int = option(8000, "port to listen on (default: 8000)", least=0)
    explain_plan: bool = option(False, "print what computes the model, and why, and exit")
    max_waiting: int = option(256, "queue length; further requests get 429 (default: 256)", least=0)
    drain_seconds: float = option(
        120.0, "seconds for requests in flight after SIGTERM (default: 120)", least=0
    )
    tool_call_parser: str = option(
        "auto",
        "format of the model's tool calls (default: auto, by the chat template)",
        choices=("auto", "none", *PARSERS),
    )
    reasoning_parser: str = option(
        "auto",
        "separate <think>...</think> from the content (default: auto, if the model knows it)",
        choices=("auto", "none", "think"),
    )
    api_keys: tuple[str, ...] = option(
        (),
        f"key of the endpoints under /v1; repeat the option for several (or {_KEY_VARIABLE})",
        flag="--api-key",
        repeated=True,
    )
    group: RankGroup = field(kw_only=True)
    cpus: int = field(kw_only=True)

    @property
    def parsers(self) -> ParserOptions:
        """The parsers of outputs."""
        return ParserOptions(self.tool_call_parser, self.reasoning_parser)


def serve_options(config: R1Config, **server: Any) -> ServeOptions:
    """A configuration with the settings of a server.

    Args:
        config: of the engine.
        server: fields of `ServeOptions` that are not the default.
    """
    engine = {each.name: getattr(config, each.name) for each in fields(R1Config)}
    return ServeOptions(**engine | server, group=_group(config), cpus=cpu_limit())


def parse_options(arguments: Sequence[str] | None = None) -> ServeOptions:
    """Read the command line.

    Raises:
        OptionError: with the option and its valid values.
    """
    parser = _Parser(
        prog="python -m r1_runtime.serve", description="Serve one model.", allow_abbrev=False
    )
    add_options(parser, ServeOptions)
    given = parser.parse_args(arguments)
    names = given.names or [given.base_model.removeprefix(BUNDLED)]
    given.names = tuple(dict.fromkeys(names))
    given.api_keys = _api_keys(given.api_keys)
    config = R1Config.from_arguments(given)  # its errors come before those of the ranks
    return ServeOptions.from_arguments(given, group=_group(config), cpus=cpu_limit())


def _group(config: R1Config) -> RankGroup:
    return rank_group(
        config.tensor_parallel_size,
        config.pipeline_parallel_size,
        config.expert_parallel,
        os.environ,
    )


def _api_keys(given: Sequence[str]) -> tuple[str, ...]:
    """Keys of the command line, or of the environment (separated by commas)."""
    keys = given or os.environ.get(_KEY_VARIABLE, "").split(",")
    return tuple(key.strip() for key in keys if key.strip())


class _Parser(argparse.ArgumentParser):
    """Raises an error for an invalid option instead of printing the usage."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise OptionError(f"command line: {message}. See --help.")


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

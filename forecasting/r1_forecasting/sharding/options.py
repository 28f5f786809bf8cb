"""The options of a shard; without them a forecaster owns everything."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from r1_forecasting.file_watcher import FileWatcher
from r1_forecasting.sharding.ownership import Addresses, parse_shards


def add_shard_options(parser: argparse.ArgumentParser, env: Callable[[str, str], str]) -> None:
    """The options of a shard; ``env`` gives a variable's value or the default."""
    shards = parser.add_argument_group(
        "shards", "One release of several forecasters, each with its own part of the subjects."
    )
    shards.add_argument(
        "--shards",
        type=_listed,
        default=env("SHARDS", ""),
        metavar="FILE",
        help="JSON object of all shards' names and URLs, followed while it changes; empty for none",
    )
    shards.add_argument(
        "--shard",
        default=env("SHARD", ""),
        metavar="NAME",
        help="the name of this one in that list",
    )


def check_shards(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with a message where one option lacks the other."""
    if bool(options.shards) != bool(options.shard):
        parser.error("--shards and --shard: give both, the list and this one's name, or neither")


def _listed(text: str) -> FileWatcher[Addresses] | None:
    try:
        return FileWatcher(Path(text), parse_shards) if text else None
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error

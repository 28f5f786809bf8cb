"""Options of a shard; without them a forecaster owns every series."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from r1_forecasting.file_watcher import FileWatcher
from r1_forecasting.sharding.ownership import Addresses, parse_shards


def add_shard_options(parser: argparse.ArgumentParser, env: Callable[[str, str], str]) -> None:
    """Add the options of a shard; ``env`` returns a variable's value or the default."""
    shards = parser.add_argument_group(
        "shards", "Several forecasters in one release, each with its own part of the series."
    )
    shards.add_argument(
        "--shards",
        type=_shard_list,
        default=env("SHARDS", ""),
        metavar="FILE",
        help="file with a JSON object of all shards' names and URLs, watched for changes; "
        "empty for a single forecaster",
    )
    shards.add_argument(
        "--shard",
        default=env("SHARD", ""),
        metavar="NAME",
        help="name of this shard in that list",
    )


def check_shards(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with a message where one option lacks the other."""
    if bool(options.shards) != bool(options.shard):
        parser.error(
            "--shards and --shard: set both (the list and the name of this shard) or neither"
        )


def _shard_list(text: str) -> FileWatcher[Addresses] | None:
    try:
        return FileWatcher(Path(text), parse_shards) if text else None
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error

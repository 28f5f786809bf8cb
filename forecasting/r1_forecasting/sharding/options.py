"""Options of a shard; without them a forecaster owns every series."""

from __future__ import annotations

import argparse
from pathlib import Path

from r1_common.options import OptionParser
from r1_forecasting.file_watcher import FileWatcher
from r1_forecasting.sharding.ownership import Addresses, parse_shards


def add_shard_options(parser: OptionParser) -> None:
    """Add the options of a shard."""
    parser.begin_group(
        "shards", "Several forecasters in one release, each with its own part of the series."
    )
    parser.add(
        "--shards",
        None,
        "file with a JSON object of all shards' names and URLs, watched for changes; "
        "empty for a single forecaster",
        _shard_list,
        metavar="FILE",
    )
    parser.add("--shard", "", "name of this shard in that list", metavar="NAME")


def check_shards(parser: OptionParser, options: argparse.Namespace) -> None:
    """Exit with a message where one option lacks the other."""
    if bool(options.shards) != bool(options.shard):
        parser.error(
            "--shards and --shard: set both (the list and the name of this shard) or neither"
        )


def _shard_list(text: str) -> FileWatcher[Addresses] | None:
    try:
        return FileWatcher(Path(text), parse_shards) if text else None
    except (ValueError, OSError) as error:
        raise ValueError(f"{text}: {error}") from error

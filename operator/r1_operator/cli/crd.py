"""`r1 crd`: the CustomResourceDefinitions, generated from the same types that read the objects."""

from __future__ import annotations

import argparse

from r1_operator.api import names
from r1_operator.api.backtest_schema import backtest_crd
from r1_operator.api.schema import as_file, crd
from r1_operator.cli.output import OK, print_json

EXAMPLES = """\
examples:
  r1 crd | kubectl apply --server-side -f -
  r1 crd r1backtests > deepseek.ai_r1backtests.yaml
  r1 crd r1inferences --json
"""
DEFINITIONS = {names.PLURAL: crd, names.BACKTEST_PLURAL: backtest_crd}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which of them."""
    parser.add_argument(
        "name", nargs="?", choices=list(DEFINITIONS), metavar="NAME",
        help=f"{' or '.join(DEFINITIONS)}; absent: all of them",
    )  # fmt: skip


async def run(options: argparse.Namespace) -> int:
    """Print one, or all: as YAML documents, as a List in JSON."""
    chosen = [options.name] if options.name else list(DEFINITIONS)
    found = [DEFINITIONS[name]() for name in chosen]
    if not options.json:
        print("---\n".join(as_file(each) for each in found), end="")
    elif options.name:
        print_json(found[0])
    else:
        print_json({"apiVersion": "v1", "kind": "List", "items": found})
    return OK

"""`r1 crd`: print the CustomResourceDefinitions."""

from __future__ import annotations

import argparse

from r1_operator.api import names
from r1_operator.api.backtest.schema import backtest_crd
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
    """Add the name of the CRD."""
    parser.add_argument(
        "name", nargs="?", choices=list(DEFINITIONS), metavar="NAME",
        help=f"{' or '.join(DEFINITIONS)}; all when absent",
    )  # fmt: skip


async def run(options: argparse.Namespace) -> int:
    """Print one CRD or all: YAML documents, or a JSON List."""
    chosen = [options.name] if options.name else list(DEFINITIONS)
    definitions = [DEFINITIONS[name]() for name in chosen]
    if not options.json:
        print("---\n".join(as_file(each) for each in definitions), end="")
    elif options.name:
        print_json(definitions[0])
    else:
        print_json({"apiVersion": "v1", "kind": "List", "items": definitions})
    return OK

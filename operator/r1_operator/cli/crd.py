"""`r1 crd`: the CustomResourceDefinition, generated from the same types that read it."""

from __future__ import annotations

import argparse

from r1_operator.api.schema import crd, crd_yaml
from r1_operator.cli.output import OK, print_json

EXAMPLES = """\
examples:
  r1 crd | kubectl apply --server-side -f -
  r1 crd --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


async def run(options: argparse.Namespace) -> int:
    """Print it."""
    if options.json:
        print_json(crd())
    else:
        print(crd_yaml(), end="")
    return OK

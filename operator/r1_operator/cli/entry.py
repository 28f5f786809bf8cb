"""Entry point of the command line: commands, help, exit codes, `--json`.

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 not found. With `--json`, stdout has only JSON, and
messages go to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from r1_operator.cli import delegated
from r1_operator.cli.output import FAILED, OK, USAGE, CommandFailed

COMMANDS = {
    "status": "show R1Inferences with their desired and available replicas and their problems",
    "explain": "explain the replica count of a resource: the last scaling decisions with all inputs",
    "usage": "show requests, tokens, waits and cost of each tenant, from Prometheus",
    "backtest": "backtest a scaling policy on the load history in Prometheus",
    "whatif": "replay the last days with other settings",
    "demo": "run a local cluster with two models and a recorded day of load in 10 min",
    "leaderboard": "compare scaling policies on a recorded load: cost at equal service",
    "forecast-bench": "compare forecasters on a recorded load: r1 forecast-bench --trace FILE",
    "serve": "serve one model on this machine: r1 serve MODEL [runtime flags]",
    "tune": "measure sparse and quantised techniques on a model: r1 tune MODEL --budget quality=0.5%%",
    "crd": "print the CustomResourceDefinitions of R1Inference and R1Backtest",
}
"""Each has a module, imported on use because the Kubernetes client takes 1 s to import, or is delegated."""

DESCRIPTION = "Serve DeepSeek-R1 class models on Kubernetes, and explain their replica counts."
EPILOG = """\
examples:
  r1 demo                          run a local cluster and a recorded day of load, draw a chart
  kubectl apply -f model.yaml      create an R1Inference
  r1 status                        show all R1Inferences
  r1 explain production-r1         explain its replica count
  r1 usage --since 7d --by tenant --prometheus URL   tokens and cost of each tenant
  r1 backtest production-r1 --prometheus URL         cost of its policy and of other policies
  r1 whatif production-r1 --prometheus URL --max 6   replay the last days with maxReplicas 6
  r1 leaderboard --trace load.csv  cost of each scaling policy on a recorded load
  r1 serve bundled:demo            serve the demo model on this machine
  r1 tune bundled:smollm2          find the techniques that keep a budget of quality

exit codes: 0 success, 1 failure, 2 wrong usage, 3 not found
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}\nTry: {self.prog} --help", file=sys.stderr)
        raise SystemExit(USAGE)


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """The parser, with the arguments of one command."""
    parser = _Parser(
        prog="r1",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help_text in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == command:
            module = importlib.import_module(f"r1_operator.cli.{name}")
            sub.epilog = module.EXAMPLES
            module.add_arguments(sub)
            sub.add_argument("--json", action="store_true", help="print only JSON")
            sub.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given[0] if given[:1] and given[0] in COMMANDS else ""
    if command in delegated.FUNCTIONS or command in delegated.PROCESSES:
        return delegated.dispatch(command, given[1:])
    try:
        options = build_parser(command).parse_args(given)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    try:
        done: int = asyncio.run(options.run(options))
        return done
    except CommandFailed as failure:
        if getattr(options, "json", False):
            print(json.dumps({"error": str(failure)}))
        print(f"r1: {failure}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the pipe has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK

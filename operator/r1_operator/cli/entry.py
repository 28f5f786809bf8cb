"""The command line's one entry: commands, help that teaches, exit codes, `--json`.

Exit codes: 0 done, 1 failed, 2 command wrongly, 3 not found. With `--json` there is JSON on stdout and
nothing else; what people should know goes to stderr.
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

from r1_operator.cli.output import FAILED, OK, USAGE, CommandFailed

COMMANDS = {
    "status": "show R1Inferences: ready, wanted and available replicas, and what is wrong",
    "explain": "show why a resource has the replicas it has: the last decisions with every input",
    "backtest": "try a policy on its own history in Prometheus before it is switched on",
    "whatif": "live through the last days again with other settings",
    "demo": "a cluster, two models, a recorded day of load in ten minutes",
    "leaderboard": "score scaling policies on a recorded load: cost at equal service",
    "forecast-bench": "score the forecasters on a recorded load: r1 forecast-bench --trace FILE",
    "serve": "serve one model on this machine: r1 serve MODEL [flags of the runtime]",
    "crd": "print the CustomResourceDefinitions of R1Inference and R1Backtest",
}
"""Each is a module of this package, loaded when it is command: a Kubernetes client takes a second."""
DELEGATED = ("backtest", "whatif", "demo", "leaderboard", "forecast-bench", "serve")
"""What follows these belongs to another program and is passed on untouched."""

DESCRIPTION = (
    "Serve DeepSeek-R1 class models on Kubernetes, and see why they have the replicas they have."
)
EPILOG = """\
examples:
  r1 demo                          a cluster, two models, a recorded day of load, one picture
  kubectl apply -f model.yaml      make an R1Inference
  r1 status                        all of them, in one table
  r1 explain production-r1         why it has the replicas it has
  r1 backtest production-r1 --prometheus URL         what its policy would have cost, and others
  r1 whatif production-r1 --prometheus URL --max 6   yesterday with other settings
  r1 leaderboard --trace load.csv  what each scaling policy would have cost on that load
  r1 serve bundled:demo            the runtime alone, on this machine

exit codes: 0 done, 1 failed, 2 command wrongly, 3 not found
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}\nTry: {self.prog} --help", file=sys.stderr)
        raise SystemExit(USAGE)


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """The parser, with the arguments of the command that is command."""
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
            sub.add_argument("--json", action="store_true", help="print JSON and nothing else")
            sub.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given[0] if given[:1] and given[0] in COMMANDS else ""
    if command in DELEGATED:
        module = command.replace("-", "_")
        code: int = importlib.import_module(f"r1_operator.cli.{module}").dispatch(given[1:])
        return code
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
    except BrokenPipeError:  # `r1 crd | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK

"""The command line's one entry: commands, help that teaches, exit codes, `--json`.

Exit codes: 0 done, 1 failed, 2 used wrongly, 3 not found. With `--json` there is JSON on stdout and
nothing else; what people should know goes to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from r1_operator.cli import crd, demo, explain, serve, status
from r1_operator.cli.output import FAILED, OK, USAGE, CommandFailed

COMMANDS = (status, explain, demo, serve, crd)

DESCRIPTION = (
    "Serve DeepSeek-R1 class models on Kubernetes, and see why they have the replicas they have."
)
EPILOG = """\
examples:
  r1 demo                          a cluster, two models, a recorded day of load, one picture
  kubectl apply -f model.yaml      make an R1Inference
  r1 status                        all of them, in one table
  r1 explain production-r1         why it has the replicas it has
  r1 serve bundled:demo            the runtime alone, on this machine

exit codes: 0 done, 1 failed, 2 used wrongly, 3 not found
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}\nTry: {self.prog} --help", file=sys.stderr)
        raise SystemExit(USAGE)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="r1",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=command.NAME not in ("demo", "serve"),
        )
        command.add_arguments(sub)
        if command.NAME not in ("demo", "serve"):
            sub.add_argument("--json", action="store_true", help="print JSON and nothing else")
        sub.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for command in (demo, serve):  # their arguments are another program's: passed on untouched
        if given[:1] == [command.NAME]:
            code: int = command.dispatch(given[1:])
            return code
    try:
        options = build_parser().parse_args(given)
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

"""The command lines of `r1 backtest` and `r1 whatif`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from r1_common.prometheus.client_config import InvalidPrometheusConfig, load_config
from r1_evaluation.backtest import backtest, text_report, whatif
from r1_evaluation.backtest.duration_text import parse_duration
from r1_evaluation.backtest.policy_under_test import (
    RATE_SECONDS,
    PolicyUnderTest,
    fetch_resource,
    policy_of_query,
    policy_of_resource,
    read_manifest,
)
from r1_evaluation.backtest.prometheus_trace import fetch_trace
from r1_evaluation.backtest.termination_message import error_text, summary, summary_text
from r1_evaluation.policies.registry import PUBLIC_POLICIES
from r1_evaluation.traces.load import RateTrace, UnreadableTrace
from r1_forecasting.series.prometheus_history import PrometheusHistory
from r1_operator.cli.output import FAILED, OK, USAGE, CommandFailed, print_json

BACKTEST = """\
Backtests an autoscaling policy on its recorded load before you enable it. The load comes from
Prometheus. Its last third is replayed through ours and through other policies, and their costs
are compared at the same service level. Your configured policy is replayed decision by decision
with the controller's code. The cluster is not changed.
"""
BACKTEST_EXAMPLES = f"""\
examples:
  r1 backtest production-r1 --prometheus http://localhost:9090
  r1 backtest examples/production-r1.yaml --prometheus http://localhost:9090 --since 14d
  r1 backtest --query 'sum(rate(http_requests_total[1m]))' --capacity 20 --prometheus URL
  r1 backtest production-r1 --prometheus URL --start 5m --out board --json

--start is the start-up time of a replica: `r1 explain` shows the measured one as lead time.
A file or --query works without a cluster. Policies: {", ".join(PUBLIC_POLICIES)}
exit codes: 0 done, 1 failed, 2 used wrongly, 3 not found
"""
WHATIF = """\
Replays the last days with other settings: replica-hours, overloaded requests, and waits for a
seat. Waits are computed from the recorded rates (Erlang C and a fluid queue): history holds no
requests.
"""
WHATIF_EXAMPLES = """\
examples:
  r1 whatif production-r1 --prometheus http://localhost:9090 --max 6
  r1 whatif production-r1 --prometheus URL --max 6 --slo-ms 300 --since 1d
  r1 whatif model.yaml --prometheus URL --utilization 85 --no-forecast --json

exit codes: 0 done, 1 failed, 2 used wrongly, 3 not found
"""
_LEARNED_FROM = 14 * 86_400.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}\nTry: {self.prog} --help", file=sys.stderr)
        raise SystemExit(USAGE)


def main(command: str, arguments: Sequence[str] | None = None) -> int:
    """Run `backtest` or `whatif`; its exit code."""
    parser = _backtest_parser() if command == "backtest" else _whatif_parser()
    try:
        options = parser.parse_args(arguments)
        if (options.resource is None) == (options.query is None or options.capacity is None):
            parser.error("RESOURCE is required, or --query with --capacity")
        try:
            options.config = load_config(options.prometheus, options.prometheus_client)
        except InvalidPrometheusConfig as error:
            parser.error(f"--prometheus, --prometheus-client: {error}")
        if not options.config.url:
            parser.error("--prometheus: the URL is empty")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    run = _backtest if command == "backtest" else _whatif
    try:
        return run(options)
    except CommandFailed as failure:
        return _failed(options, str(failure), failure.code)
    except UnreadableTrace as unreadable:
        return _failed(options, str(unreadable), FAILED)
    except KeyboardInterrupt:
        return 130


def _backtest(options: argparse.Namespace) -> int:
    candidate = _candidate(options)
    trace = _history(options, candidate, options.since)
    result = backtest.run(trace, candidate, options.start, options.policies, _print_progress)
    if options.out is not None:
        _write_report(lambda: text_report.write(result, options.out), options.out)
    short = summary_text(summary(result.verdict, result.board))
    if options.message is not None:
        _write_message(options.message, short)
    if options.short:
        print(short)
    elif options.json:
        print_json(result.to_json())
    else:
        print(text_report.backtest_text(result))
    return OK


def _whatif(options: argparse.Namespace) -> int:
    candidate = _candidate(options)
    change = whatif.SettingChange(
        options.min, options.max, options.utilization, options.no_forecast
    )
    try:
        change.of(candidate)
    except ValueError as error:
        raise CommandFailed(f"{error}: change --min or --max", USAGE) from error
    learned = _LEARNED_FROM if backtest.wants_forecast(candidate) else 3600.0
    trace = _history(options, candidate, options.since + learned)
    slo = None if options.slo_ms is None else options.slo_ms / 1000
    result = whatif.evaluate_change(
        trace, candidate, change, options.start, options.since, slo, _print_progress
    )
    if options.json:
        settings = {
            "minReplicas": options.min,
            "maxReplicas": options.max,
            "targetUtilizationPercent": options.utilization,
            "noForecast": options.no_forecast,
            "sloMilliseconds": options.slo_ms,
        }
        print_json({"resource": candidate.name, "change": settings, **result.to_json()})
    else:
        print(text_report.whatif_text(result, candidate, change, options.slo_ms))
    return OK


def _candidate(options: argparse.Namespace) -> PolicyUnderTest:
    if options.resource is None:
        return policy_of_query(options.query, options.capacity, options.most)
    path = Path(options.resource)
    if path.suffix in (".yaml", ".yml", ".json"):
        result = read_manifest(path)
    else:
        result = asyncio.run(fetch_resource(options.namespace, options.resource))
    return policy_of_resource(result, options.query, options.config.rate_seconds(RATE_SECONDS))


def _history(options: argparse.Namespace, candidate: PolicyUnderTest, seconds: float) -> RateTrace:
    _print_progress(f"reading the history of {candidate.name} from {options.config.url}")
    history = PrometheusHistory(options.config, timeout_seconds=60.0)
    return fetch_trace(history, candidate.query, candidate.name, seconds)


def _write_report(write: Callable[[], Sequence[Path]], folder: Path) -> None:
    try:
        written = write()
    except OSError as error:
        raise CommandFailed(f"{folder}: {error}", FAILED) from error
    print("wrote " + ", ".join(map(str, written)), file=sys.stderr)


def _print_progress(what: str) -> None:
    print(f"r1: {what} ...", file=sys.stderr, flush=True)


def _failed(options: argparse.Namespace, message: str, code: int) -> int:
    if options.json or options.short:
        print(json.dumps({"error": message}))
    print(f"r1: {message}", file=sys.stderr)
    if options.message is not None:
        try:
            _write_message(options.message, error_text(message))
        except CommandFailed as unwritable:
            print(f"r1: {unwritable}", file=sys.stderr)
    return code


def _write_message(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise CommandFailed(f"--message {path}: {error.strerror}", FAILED) from error


def _backtest_parser() -> argparse.ArgumentParser:
    parser = _parser("backtest", BACKTEST, BACKTEST_EXAMPLES, since="14d")
    parser.add_argument(
        "--policies", type=_names, default=backtest.DEFAULT_POLICIES, metavar="NAME,...",
        help="policies to compare with; ours, ours-no-forecast and hpa are always included",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write leaderboard and charts to this folder"
    )
    parser.add_argument(
        "--short", action="store_true",
        help="print verdict and rows as JSON of at most 4 KB (costs in thousandths)",
    )  # fmt: skip
    parser.add_argument(
        "--message", type=Path, metavar="FILE",
        help="also write that JSON, or the error, to FILE: a pod's termination message",
    )  # fmt: skip
    return parser


def _whatif_parser() -> argparse.ArgumentParser:
    parser = _parser("whatif", WHATIF, WHATIF_EXAMPLES, since="1d")
    parser.set_defaults(short=False, message=None)
    count = _whole(0, 10_000)
    parser.add_argument("--min", type=count, metavar="N", help="another minReplicas")
    parser.add_argument("--max", type=_whole(1, 10_000), metavar="N", help="another maxReplicas")
    parser.add_argument(
        "--utilization", type=_whole(1, 100), metavar="PERCENT",
        help="another targetUtilizationPercent",
    )  # fmt: skip
    parser.add_argument("--no-forecast", action="store_true", help="disable the forecast")
    parser.add_argument(
        "--slo-ms", type=_whole(1, 86_400_000), metavar="MS",
        help="objective for waits: print the share that exceeds it, and the utilization that meets it for 99 %%",
    )  # fmt: skip
    return parser


def _parser(name: str, about: str, examples: str, since: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"r1 {name}",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "resource", nargs="?", metavar="RESOURCE",
        help="an R1Inference in the cluster, or a manifest file (.yaml)",
    )  # fmt: skip
    parser.add_argument("-n", "--namespace", default="default", help="default: default")
    parser.add_argument(
        "--prometheus", required=True, metavar="URL", help="Prometheus with the history"
    )
    parser.add_argument(
        "--prometheus-client", default=os.environ.get("R1_PROMETHEUS_CLIENT", ""), metavar="JSON",
        help="credentials as file paths, headers, TLS files, label matchers and scrape interval: a"
        " JSON object or a file with it; default: R1_PROMETHEUS_CLIENT",
    )  # fmt: skip
    parser.add_argument(
        "--since",
        type=parse_duration,
        default=parse_duration(since),
        metavar="SPAN",
        help=f"how far back ({since})",
    )
    parser.add_argument(
        "--start",
        type=parse_duration,
        default=60.0,
        metavar="SPAN",
        help="start-up time of a replica (1m)",
    )
    parser.add_argument(
        "--query", metavar="PROMQL", help="a load in requests/s, instead of the resource's"
    )
    parser.add_argument(
        "--capacity", type=_positive, metavar="RATE",
        help="requests/s of one replica, without a resource",
    )  # fmt: skip
    parser.add_argument(
        "--most", type=_whole(1, 10_000), default=60, metavar="N",
        help="maximum of replicas, without a resource (60)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    return parser


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: a number from {low} to {high} is required")
        return int(text)

    return read


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise argparse.ArgumentTypeError(f"{text!r}: a number above zero is required")
    return value


def _names(text: str) -> tuple[str, ...]:
    names: Any = (
        tuple(PUBLIC_POLICIES) if text == "all" else tuple(n.strip() for n in text.split(","))
    )
    unknown = [name for name in names if name not in PUBLIC_POLICIES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no policy {', '.join(unknown)!r}; the policies are {', '.join(PUBLIC_POLICIES)}"
        )
    return tuple(names)

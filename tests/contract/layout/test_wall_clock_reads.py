"""Every read of the wall clock in what ships, with the reason: durations come from monotonic clocks.

The wall clock can be set at any moment. A new read belongs here only where a time is shown to people,
stored for another process, or compared with timestamps of other machines.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PRODUCTS = (
    "operator/r1_operator",
    "gateway/r1_gateway",
    "forecasting/r1_forecasting",
    "runtime/r1_runtime",
    "common/r1_common",
    "demo/r1_demo",
)
READS = {
    "time": {"time", "time_ns", "localtime", "gmtime", "ctime", "asctime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
ALLOWED = {
    "common/r1_common/clock.py": (1, "the anchor, and what is shown"),
    "operator/r1_operator/cli/output.py": (1, "ages of API objects in tables, never below 0"),
    "operator/r1_operator/kube/events.py": (1, "eventTime of an Event"),
    "operator/r1_operator/kube/lease.py": (1, "renewTime of the Lease, which no election reads"),
    "gateway/r1_gateway/gateway.py": (
        1,
        "startedAt: the identity of the process, `created` of models",
    ),
    "gateway/r1_gateway/telemetry/signals.py": (
        1,
        "`at`, beside uptimeSeconds by which rates are counted",
    ),
    "gateway/r1_gateway/telemetry/access_log.py": (1, "the time of a line"),
    "gateway/r1_gateway/tenants/tenant_limiter.py": (
        2,
        "limits per day and month are of the calendar",
    ),
    "gateway/r1_gateway/tenants/jwt_tokens.py": (1, "the rest of a token's life"),
    "gateway/r1_gateway/tenants/shared_usage.py": (1, "when counters in Redis expire"),
    "gateway/r1_gateway/kube/invalid_route_events.py": (1, "eventTime of an Event"),
    "forecasting/r1_forecasting/series/series_clock.py": (
        1,
        "until Prometheus has dated an answer",
    ),
    "forecasting/r1_forecasting/service/series_forecaster.py": (
        1,
        "default time of a series without Prometheus",
    ),
    "forecasting/r1_forecasting/service/service.py": (
        3,
        "the same; fitted_at, stored over a restart",
    ),
    "forecasting/r1_forecasting/__main__.py": (1, "age of files, bounded by their last use"),
    "runtime/r1_runtime/tokenizer/chat_template.py": (1, "the date that a chat template prints"),
    "runtime/r1_runtime/server/endpoints/generation.py": (1, "`created` of a completion"),
    "demo/r1_demo/reporting/report.py": (1, "finishedAt of a report"),
    "demo/r1_demo/load/load_generator.py": (2, "a start that two processes agree on"),
    "demo/r1_demo/runner.py": (1, "a start that two processes agree on"),
}


def wall_clock_reads(source: str) -> list[str]:
    """`time.time` and its kin, called or passed on, by dotted name."""
    reads: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if node.attr in READS.get(name, ()):
                reads.append(f"{name}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            reads += [f"time.{one.name}" for one in node.names if one.name in READS["time"]]
    return reads


def test_every_read_of_the_wall_clock_has_a_reason() -> None:
    counts = Counter[str]()
    for product in PRODUCTS:
        for path in (ROOT / product).rglob("*.py"):
            reads = wall_clock_reads(path.read_text())
            if reads:
                counts[str(path.relative_to(ROOT))] = len(reads)
    assert dict(counts) == {path: count for path, (count, _) in ALLOWED.items()}


@pytest.mark.parametrize(
    "source",
    [
        "import time\nx = time.time()",
        "import time\ndef f(now=time.time): ...",
        "from time import time",
        "from time import time_ns as now",
        "import datetime\nx = datetime.datetime.now()",
        "from datetime import UTC, datetime\nx = datetime.now(UTC)",
        "from datetime import datetime\nx = datetime.utcnow()",
        "from datetime import date\nx = date.today()",
    ],
)
def test_a_new_read_is_found(source: str) -> None:
    assert len(wall_clock_reads(source)) == 1


def test_monotonic_clocks_are_no_wall_clock() -> None:
    source = "import time\nx = time.monotonic() + time.perf_counter() + time.sleep(1)"
    assert wall_clock_reads(source) == []

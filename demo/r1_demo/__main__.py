"""`python -m r1_demo`: the whole demo, from no cluster to a report and a chart.

1. Boot a cluster, build the images, install the chart.
2. Apply two resources of the small model.
3. Measure the capacity of a replica, and scale the recorded day to it.
4. Backfill thirteen days of history into Prometheus, and send the end of the thirteenth day live.
5. Send the fourteenth day.
6. Report the result beside simulated HPAs on the same arrivals.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console

from r1_cluster.errors import ClusterError
from r1_demo.load.calibration import CalibrationFailed
from r1_demo.options import DemoOptions, parse_options
from r1_demo.runner import run_demo
from r1_evaluation.traces.load import UnreadableTrace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns 0 on success, 1 with a message on failure."""
    options = parse_options(arguments)
    console = Console(stderr=options.json)
    began = time.monotonic()
    try:
        with interruptible():
            run_demo(options, console)
    except KeyboardInterrupt:
        console.print("Stopped. Cluster and resources of the demo are removed.", style="yellow")
        return 130
    except (ClusterError, UnreadableTrace, CalibrationFailed, OSError) as error:
        print(f"r1 demo: {error}", file=sys.stderr)
        return 1
    console.print(f"done in {(time.monotonic() - began) / 60:.1f} min", style="dim")
    return 0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Handle SIGTERM as Ctrl-C."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


__all__ = ["DemoOptions", "main"]

if __name__ == "__main__":
    sys.exit(main())

"""`python -m r1_demo`: the whole play, from no cluster to a table and a picture.

1. a cluster, the images, the chart; 2. two resources of the small model; 3. what one replica
takes is measured and the recorded day scaled to it; 4. thirteen days go into Prometheus as the
past while the end of the thirteenth is already played live; 5. the fourteenth day; 6. what was
seen, beside what reactive scaling would have done.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console

from r1_cluster.errors import ClusterError
from r1_demo.calibration import CalibrationFailed
from r1_demo.options import DemoOptions, parse_options
from r1_demo.runner import run_demo
from r1_evaluation.traces.load import UnreadableTrace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; 0 when it was played, 1 with a sentence when it could not be."""
    options = parse_options(arguments)
    console = Console(stderr=options.json)
    began = time.monotonic()
    try:
        with interruptible():
            run_demo(options, console)
    except KeyboardInterrupt:
        console.print("stopped; everything is taken away", style="yellow")
        return 130
    except (ClusterError, UnreadableTrace, CalibrationFailed, OSError) as error:
        print(f"r1 demo: {error}", file=sys.stderr)
        return 1
    console.print(f"done in {(time.monotonic() - began) / 60:.1f} min", style="dim")
    return 0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM clean up as Ctrl-C does."""

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

"""``python -m r1_gateway``."""

from __future__ import annotations

import logging
import os
import signal
import sys


def main() -> int:
    """Parse the options and serve until SIGTERM or SIGINT."""
    # Before the slow imports: process 1 of a container has no default action for SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    import uvloop

    from r1_gateway.options import parse_options
    from r1_gateway.server import run
    from r1_gateway.telemetry.output_queue import OutputQueue, QueuedLogHandler

    options = parse_options()
    log = OutputQueue(sys.stderr.fileno())
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[QueuedLogHandler(log)],
    )
    logging.captureWarnings(True)
    try:
        return int(uvloop.run(run(options, log)))
    finally:
        log.close()


if __name__ == "__main__":
    sys.exit(main())

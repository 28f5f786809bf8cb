"""``python -m r1_gateway``."""

from __future__ import annotations

import logging
import sys

import uvloop

from r1_gateway.options import parse_options
from r1_gateway.server import run


def main() -> int:
    """Parse the options and serve until told to stop."""
    options = parse_options()
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    return int(uvloop.run(run(options)))


if __name__ == "__main__":
    sys.exit(main())

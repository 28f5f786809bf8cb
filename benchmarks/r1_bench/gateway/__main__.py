"""``python -m r1_bench.gateway``."""

import sys

from r1_bench.gateway.benchmark import main

if __name__ == "__main__":
    sys.exit(main())

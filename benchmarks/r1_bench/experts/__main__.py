"""``python -m r1_bench.experts``."""

import sys

from r1_bench.experts.benchmark import main

if __name__ == "__main__":
    sys.exit(main())

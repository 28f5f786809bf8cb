"""``python -m r1_bench.operator_scale``."""

import sys

from r1_bench.operator_scale.benchmark import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m r1_bench.forecaster``."""

import sys

from r1_bench.forecaster.benchmark import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m r1_bench.sparsity``."""

import sys

from r1_bench.sparsity.benchmark import main

if __name__ == "__main__":
    sys.exit(main())

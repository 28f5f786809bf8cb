"""``python -m r1_bench.runtime``."""

from r1_bench.runtime.benchmark import main

if __name__ == "__main__":
    main()

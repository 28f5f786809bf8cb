"""`python -m r1_evaluation.backtest backtest|whatif ...`."""

import sys

from r1_evaluation.backtest.command import main

if __name__ == "__main__":
    if sys.argv[1:2] not in (["backtest"], ["whatif"]):
        print("usage: python -m r1_evaluation.backtest backtest|whatif ...", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))

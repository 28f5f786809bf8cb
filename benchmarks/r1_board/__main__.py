"""`python -m r1_board`: the leaderboard."""

import sys

from r1_board.program import main

if __name__ == "__main__":
    sys.exit(main())

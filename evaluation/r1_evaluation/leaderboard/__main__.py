"""`python -m r1_evaluation.leaderboard`: the leaderboard."""

import sys

from r1_evaluation.leaderboard.command import main

if __name__ == "__main__":
    sys.exit(main())

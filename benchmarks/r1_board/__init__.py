"""The leaderboard: scaling policies on recorded load, judged by cost at equal service."""

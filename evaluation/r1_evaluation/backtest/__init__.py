"""`r1 backtest` and `r1 whatif`: a policy on the user's own history, before it is switched on."""

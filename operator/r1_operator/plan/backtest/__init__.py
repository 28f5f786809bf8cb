"""Plan of an R1Backtest: the Job that runs it and its status. Pure."""

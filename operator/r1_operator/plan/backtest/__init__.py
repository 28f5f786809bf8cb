"""R1Backtest: from what is there to the Job that runs it, and to what its status says. Pure."""

"""Types, schema and status of R1Backtest."""

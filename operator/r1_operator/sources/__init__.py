"""Where load and forecasts come from: I/O in, typed values or `Unavailable` out."""

"""When a forecast may act, what it may cost, and which quantile of its peak counts."""

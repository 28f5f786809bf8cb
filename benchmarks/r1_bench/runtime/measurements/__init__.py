"""What the benchmark measures, one subject per module; each yields rows."""

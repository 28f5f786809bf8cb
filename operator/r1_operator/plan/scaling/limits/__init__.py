"""Rate limits over past counts, and budgets."""

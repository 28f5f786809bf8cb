"""Rows of the table, one module per subject.

A module has `rows(given: MeasureInput) -> Iterator[SparsityRow]`. Techniques of `r1_runtime.tuning` need
no module here: `product_techniques` measures them all.
"""

"""The square-root scale on which errors are compared.

The spread of counted demand grows like its square root (Poisson), that of production traffic
between its square root and proportionally. On ``sqrt(y + c)`` errors at night and at noon have
equal weight. A logarithm would turn a jump from near zero into a factor on the peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r1_forecasting.arrays import FloatArray
from r1_forecasting.series.series import Series


@dataclass(frozen=True, slots=True)
class RootScale:
    """``sqrt(y + offset)`` and back; the result of ``back`` is never negative."""

    offset: float

    @classmethod
    def of(cls, series: Series) -> RootScale:
        """Offset 1 % of the mean demand, so that noise around zero stays small."""
        observed = series.values[~np.isnan(series.values)]
        mean = float(observed.mean()) if len(observed) else 0.0
        return cls(offset=max(0.01 * mean, 1e-9))

    def to(self, values: FloatArray) -> FloatArray:
        roots: FloatArray = np.sqrt(np.maximum(values, 0.0) + self.offset)
        return roots

    def back(self, roots: FloatArray) -> FloatArray:
        return np.maximum(np.square(np.maximum(roots, 0.0)) - self.offset, 0.0)

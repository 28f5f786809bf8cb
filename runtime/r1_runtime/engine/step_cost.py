"""Duration of a step, learned from the last steps.

The model is linear: a constant (reading the weights), a time per row, and a time per cache entry that
a row reads. Its three values are at least 0. They are fitted to relative errors, so that short and
long steps count alike.

Observations are grouped by powers of two of rows and of entries per row, and a group keeps its last
five. Memory is bounded, a rare kind of step is not forgotten between others, and the median of a group
ignores single slow steps.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import combinations

_GROUP = 5
_LEAST_MARGIN, _MOST_MARGIN = 1.1, 2.0
_RATIOS = 16  # steps that the margin remembers
_MEASURED_ROWS = 16  # rows of a step that counts for the margin
_ROWS_GROWTH, _ATTENDED_GROWTH = 2, 4  # largest extrapolation beyond the observations
_SINGULAR = 1e-9  # pivot of a matrix with ones on its diagonal
_FADING = 256  # observations after which a group has half of its weight


@dataclass(frozen=True, slots=True)
class _Observation:
    rows: int
    attended: int
    seconds: float


class _Group:
    """The last observations of similar steps.

    Attributes:
        median: the one with the median time per row.
        updated: number of the newest observation.
    """

    __slots__ = ("_recent", "median", "updated")

    def __init__(self) -> None:
        self._recent: deque[_Observation] = deque(maxlen=_GROUP)

    def add(self, one: _Observation, number: int) -> None:
        self._recent.append(one)
        self.updated = number
        ordered = sorted(self._recent, key=lambda each: each.seconds / each.rows)
        self.median = ordered[(len(ordered) - 1) // 2]


class StepCost:
    """Predicts the seconds of a step from its rows and the cache entries that they read.

    Deterministic: equal observations give equal predictions. Not thread-safe.
    """

    def __init__(self) -> None:
        self._groups: dict[tuple[int, int], _Group] = {}
        self._ratios: deque[float] = deque(maxlen=_RATIOS)
        self._count = 0
        self._largest_rows = 0
        self._largest_attended = 0
        self._weights: tuple[float, float, float] | None = None  # None: to be fitted again

    def observe(self, rows: int, attended: int, seconds: float) -> None:
        """Add a step.

        Args:
            rows: tokens of the step, at least 1.
            attended: sum over the rows of the cache entries that each one reads.
            seconds: duration; values that are not positive are ignored.
        """
        if rows < 1 or seconds <= 0:
            return
        if _MEASURED_ROWS <= rows <= _ROWS_GROWTH * self._largest_rows:
            self._ratios.append(seconds / max(self.predict(rows, attended), 1e-9))
        self._largest_rows = max(self._largest_rows, rows)
        self._largest_attended = max(self._largest_attended, attended)
        key = (rows.bit_length(), (attended // rows).bit_length())
        self._count += 1
        if key not in self._groups:
            self._groups[key] = _Group()
        self._groups[key].add(_Observation(rows, attended, seconds), self._count)
        self._weights = None

    def predict(self, rows: int, attended: int) -> float:
        """Expected seconds of a step; 0 before the first observation."""
        if self._weights is None:
            self._weights = self._fit()
        constant, per_row, per_entry = self._weights
        return constant + per_row * rows + per_entry * attended

    @property
    def margin(self) -> float:
        """Factor on a prediction that recent steps stayed below, except for the slowest of them."""
        ordered = sorted(self._ratios)
        recent = ordered[-2] if len(ordered) > 1 else _LEAST_MARGIN
        return min(_MOST_MARGIN, max(_LEAST_MARGIN, recent))

    def most_tokens(self, rows: int, attended: int, start: int, most: int, seconds: float) -> int:
        """Number of tokens of one more chunk so that the step stays within `seconds`.

        A step is at most twice as long, and reads at most four times as much, as those observed.

        Args:
            rows: rows of the step without the chunk.
            attended: cache entries that these rows read.
            start: position of the chunk's first token.
            most: upper limit of the result.
            seconds: duration of the whole step.
        """
        most = min(most, _ROWS_GROWTH * self._largest_rows - rows)
        entries = _ATTENDED_GROWTH * self._largest_attended
        margin = self.margin

        def fits(count: int) -> bool:
            total = attended + chunk_attended(start, count)
            return total <= entries and self.predict(rows + count, total) * margin <= seconds

        low, high = 0, max(0, most)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def _fit(self) -> tuple[float, float, float]:
        moments = [[0.0] * 3 for _ in range(3)]
        right = [0.0] * 3
        for group in self._groups.values():
            one = group.median
            weight = _FADING / (_FADING + self._count - group.updated)
            row = (1 / one.seconds, one.rows / one.seconds, one.attended / one.seconds)
            for i in range(3):
                right[i] += weight * row[i]
                for j in range(3):
                    moments[i][j] += weight * row[i] * row[j]
        return _nonnegative_solution(moments, right)


def chunk_attended(start: int, count: int) -> int:
    """Cache entries that `count` rows from position `start` read; each row reads itself as well."""
    return count * start + count * (count + 1) // 2


def _nonnegative_solution(
    moments: list[list[float]], right: list[float]
) -> tuple[float, float, float]:
    """Minimise `v . moments . v - 2 right . v` over values that are not negative.

    The minimum is the least-squares solution of a subset of the three values, the others being 0.
    """
    scales = [math.sqrt(moments[index][index]) or 1.0 for index in range(3)]
    best, least = [0.0, 0.0, 0.0], 0.0
    for size in (1, 2, 3):
        for columns in combinations(range(3), size):
            solution = _solve(
                [[moments[i][j] / (scales[i] * scales[j]) for j in columns] for i in columns],
                [right[i] / scales[i] for i in columns],
            )
            if solution is None or min(solution) < 0:
                continue
            # At a solution, the minimised value is `-right . v`.
            value = -sum(v * right[i] / scales[i] for v, i in zip(solution, columns, strict=True))
            if value < least:
                least, best = value, [0.0, 0.0, 0.0]
                for v, i in zip(solution, columns, strict=True):
                    best[i] = v / scales[i]
    return best[0], best[1], best[2]


def _solve(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    """Gaussian elimination with pivoting; None for a singular matrix."""
    size = len(right)
    rows = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda index: abs(rows[index][column]))
        if abs(rows[pivot][column]) <= _SINGULAR:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for other in range(size):
            if other != column:
                factor = rows[other][column] / rows[column][column]
                rows[other] = [
                    a - factor * b for a, b in zip(rows[other], rows[column], strict=True)
                ]
    return [rows[index][size] / rows[index][index] for index in range(size)]

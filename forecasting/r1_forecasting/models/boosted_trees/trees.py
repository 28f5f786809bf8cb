"""A boosted forest as plain arrays: trained by LightGBM, evaluated with numpy.

Only the worker process that trains loads LightGBM. Missing values take the branch that LightGBM
learned for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from r1_forecasting.arrays import BoolArray, FloatArray

SmallInts = npt.NDArray[np.int16]
"""Columns and nodes are hundreds at most, and a forecaster holds thousands of forests."""

ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Trees side by side, each padded to the largest: arrays (trees, nodes).

    A node below zero in ``left`` or ``right`` is a leaf: ``-1 - leaf``.
    """

    feature: SmallInts
    threshold: FloatArray
    left: SmallInts
    right: SmallInts
    missing_left: BoolArray
    leaf: FloatArray
    depth: int

    def predict(self, features: FloatArray) -> FloatArray:
        """Sum over the trees for each row of ``features`` (rows, columns) -> (rows,)."""
        parts = [
            self._predict(features[first : first + ROWS_AT_ONCE])
            for first in range(0, len(features), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _predict(self, features: FloatArray) -> FloatArray:
        trees = np.arange(len(self.leaf))[None, :]
        rows = np.arange(len(features))[:, None]
        node = np.zeros((len(features), len(self.leaf)), dtype=np.int64)
        for _ in range(self.depth):
            inner = np.maximum(node, 0)
            value = features[rows, self.feature[trees, inner]]
            lower = np.where(
                np.isnan(value),
                self.missing_left[trees, inner],
                value <= self.threshold[trees, inner],
            )
            below = np.where(lower, self.left[trees, inner], self.right[trees, inner])
            node = np.where(node < 0, node, below)
        total: FloatArray = self.leaf[trees, -1 - np.minimum(node, -1)].sum(axis=1)
        return total


def forest_of(dump: Mapping[str, Any]) -> Forest:
    """The forest in what ``Booster.dump_model()`` returns (numerical splits only)."""
    trees = [info["tree_structure"] for info in dump["tree_info"]]
    flat = [_flatten(tree) for tree in trees]
    nodes = max((len(inner) for inner, _, _ in flat), default=0) or 1
    leaves = max((len(values) for _, values, _ in flat), default=0) or 1
    shape = (len(trees), nodes)
    feature, left, right = (np.zeros(shape, dtype=np.int16) for _ in range(3))
    left -= 1  # a tree without a split is its first leaf
    right -= 1
    threshold = np.zeros(shape)
    missing_left = np.zeros(shape, dtype=np.bool_)
    leaf = np.zeros((len(trees), leaves))
    for t, (inner, values, _) in enumerate(flat):
        leaf[t, : len(values)] = values
        for n, (column, limit, low, high, missing) in enumerate(inner):
            feature[t, n], threshold[t, n], missing_left[t, n] = column, limit, missing
            left[t, n], right[t, n] = low, high
    depth = max((deep for _, _, deep in flat), default=1)
    return Forest(feature, threshold, left, right, missing_left, leaf, max(depth, 1))


Inner = tuple[int, float, int, int, bool]


def _flatten(root: Mapping[str, Any]) -> tuple[list[Inner], list[float], int]:
    """Inner nodes (the root first), leaf values, and the depth of one tree."""
    inner: list[Inner] = []
    values: list[float] = []

    def visit(node: Mapping[str, Any]) -> tuple[int, int]:
        if "split_feature" not in node:
            values.append(float(node["leaf_value"]))
            return -len(values), 0
        here = len(inner)
        inner.append((0, 0.0, 0, 0, False))
        low, depth_low = visit(node["left_child"])
        high, depth_high = visit(node["right_child"])
        column, limit = int(node["split_feature"]), float(node["threshold"])
        missing = bool(node["default_left"])
        if node["missing_type"] == "None":  # LightGBM then reads a missing value as zero
            missing = limit >= 0.0
        inner[here] = (column, limit, low, high, missing)
        return here, 1 + max(depth_low, depth_high)

    _, depth = visit(root)
    return inner, values, depth

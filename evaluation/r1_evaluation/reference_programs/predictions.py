"""Predictions of Dynamo's own predictors, cached beside the environments.

Its ARIMA slows down with each step, and its Prophet is fitted anew at each: five days take minutes.
The cache serves other start-up times and targets of the same trace.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from r1_common.cache_folder import cache_root
from r1_evaluation.reference_programs.environment import DYNAMO, ensure_installed, folder_of
from r1_evaluation.reference_programs.reference_process import reference_process

PREDICTORS = ("constant", "arima", "kalman", "prophet")
"""Names of Dynamo's predictors; `arima` is its default."""
INTERVAL_SECONDS = 180
"""Interval of Dynamo's throughput planner."""

Floats = npt.NDArray[np.float64]


def predict(predictor: str, values: Sequence[float], first: int) -> Floats:
    """Return predictions of `values[first:]` and of the value after the last.

    Each prediction uses only the values before it. `values` are requests per interval without gaps,
    because the predictors read NaN as zero. Raises NotInstalled, and ValueError on a gap.
    """
    finite = [float(value) for value in values]
    if not np.isfinite(finite).all():
        raise ValueError("values have a gap or are infinite: forward-fill gaps first")
    request = {"predictor": predictor, "values": finite, "from": first}
    whole = json.dumps([folder_of(DYNAMO).name, request])
    key = hashlib.sha256(whole.encode()).hexdigest()[:32]
    cached = cache_root() / "reference-programs" / "predictions" / f"{key}.json"
    if not cached.is_file():
        with reference_process(DYNAMO, ensure_installed(DYNAMO), "dynamo_predictors") as process:
            response = process.send(request)
        cached.parent.mkdir(parents=True, exist_ok=True)
        part = cached.with_suffix(".part")
        part.write_text(json.dumps(response))
        part.replace(cached)
    return np.array(json.loads(cached.read_text())["predictions"], dtype=np.float64)

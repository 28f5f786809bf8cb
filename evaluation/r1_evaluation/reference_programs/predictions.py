"""What Dynamo's own predictors say, asked for once: answers are kept beside the environments.

Its ARIMA takes a growing share of a second for each step and its Prophet is fitted anew at each,
so five days take minutes; the next start-up time or target of the same trace should not.
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
"""Names of its predictors; `arima` is its default."""
INTERVAL_SECONDS = 180
"""Its throughput planner decides this often, on the requests of one interval."""

Floats = npt.NDArray[np.float64]


def predict(predictor: str, values: Sequence[float], first: int) -> Floats:
    """What the predictor says of `values[first:]` and of the one after the last.

    Each is said knowing only what lies before it. `values` are requests per interval, without
    gaps: the predictors take NaN for zero. Raises NotToBeHad, and ValueError on a gap.
    """
    told = [float(value) for value in values]
    if not np.isfinite(told).all():
        raise ValueError("values hold a gap or are infinite: hold the value before it")
    question = {"predictor": predictor, "values": told, "from": first}
    whole = json.dumps([folder_of(DYNAMO).name, question])
    key = hashlib.sha256(whole.encode()).hexdigest()[:32]
    kept = cache_root() / "owners" / "said" / f"{key}.json"
    if not kept.is_file():
        with reference_process(DYNAMO, ensure_installed(DYNAMO), "dynamo_predictors") as talk:
            answer = talk.ask(question)
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(answer))
        part.replace(kept)
    return np.array(json.loads(kept.read_text())["said"], dtype=np.float64)

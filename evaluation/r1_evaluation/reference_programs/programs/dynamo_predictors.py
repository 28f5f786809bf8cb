"""Runs in Dynamo's own environment: its load predictors with their defaults, one step ahead.

A line in: `{"predictor": NAME, "values": [...], "from": N}`, values being requests per interval.
The predictor takes in the first N values; then it says the next one before it is told it, over
and over, and once more at the end. A line out: `{"said": [...], "seconds": CPU}`, of values N,
N + 1, ... and of the one after the last.
"""

import json
import logging
import sys
import time
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.ERROR)
answers = sys.stdout
sys.stdout = sys.stderr  # what the packages print is no answer

from dynamo.planner.config.planner_config import PlannerConfig
from dynamo.planner.core.load.predictors import LOAD_PREDICTORS

TOLD_EVERY = 200


def foretell(predictor: str, values: list[float], first: int) -> list[float]:
    """What the predictor says of values[first:] and of the one after them."""
    teller = LOAD_PREDICTORS[predictor](PlannerConfig.model_construct())
    for value in values[:first]:
        teller.add_data_point(value)
    said = [float(teller.predict_next())]
    for number, value in enumerate(values[first:], start=1):
        teller.add_data_point(value)
        said.append(float(teller.predict_next()))
        if number % TOLD_EVERY == 0:
            print(f"Dynamo's {predictor}: {number} of {len(values) - first}", file=sys.stderr)
    return said


for line in sys.stdin:
    asked = json.loads(line)
    began = time.process_time()
    said = foretell(asked["predictor"], asked["values"], asked["from"])
    answer = {"said": said, "seconds": time.process_time() - began}
    print(json.dumps(answer), file=answers, flush=True)

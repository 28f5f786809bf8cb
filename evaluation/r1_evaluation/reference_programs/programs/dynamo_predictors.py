"""Runs in Dynamo's own environment: its load predictors with their defaults, one step ahead.

A line in: `{"predictor": NAME, "values": [...], "from": N}`, values being requests per interval.
The predictor receives the first N values. Then it predicts each value before it receives it, and
once more at the end. A line out: `{"predictions": [...], "seconds": CPU}`, of values N,
N + 1, ... and of the one after the last.
"""

import json
import logging
import sys
import time
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.ERROR)
responses = sys.stdout
sys.stdout = sys.stderr  # the packages print to stdout

from dynamo.planner.config.planner_config import PlannerConfig
from dynamo.planner.core.load.predictors import LOAD_PREDICTORS

REPORT_EVERY = 200


def predict(predictor: str, values: list[float], first: int) -> list[float]:
    """Return predictions of values[first:] and of the one after them."""
    predictor_model = LOAD_PREDICTORS[predictor](PlannerConfig.model_construct())
    for value in values[:first]:
        predictor_model.add_data_point(value)
    prediction = [float(predictor_model.predict_next())]
    for number, value in enumerate(values[first:], start=1):
        predictor_model.add_data_point(value)
        prediction.append(float(predictor_model.predict_next()))
        if number % REPORT_EVERY == 0:
            print(f"Dynamo's {predictor}: {number} of {len(values) - first}", file=sys.stderr)
    return prediction


for line in sys.stdin:
    request = json.loads(line)
    began = time.process_time()
    prediction = predict(request["predictor"], request["values"], request["from"])
    response = {"predictions": prediction, "seconds": time.process_time() - began}
    print(json.dumps(response), file=responses, flush=True)

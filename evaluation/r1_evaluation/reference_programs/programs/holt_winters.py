"""Runs in Dynamo's environment, whose ARIMA brings statsmodels: what its Holt-Winters says next.

The arguments are those of `algorithms/holt_winters` of jthomperoo's predictive HPA (c91d0609), which
pins statsmodels 0.14.0; the release here is in every response.

A line in: `{"series": [...], "season": M, "gains": [ALPHA, BETA, GAMMA]}`. A line out:
`{"predictions": VALUE, "statsmodels": RELEASE}`; that script prints the value rounded up.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")
responses = sys.stdout
sys.stdout = sys.stderr

import statsmodels
from statsmodels.tsa.api import ExponentialSmoothing

for line in sys.stdin:
    request = json.loads(line)
    alpha, beta, gamma = request["gains"]
    model = ExponentialSmoothing(
        request["series"],
        trend="additive",
        seasonal="additive",
        seasonal_periods=request["season"],
        initialization_method="estimated",
        damped_trend=False,
    )
    fitted = model.fit(
        smoothing_level=alpha, smoothing_trend=beta, smoothing_seasonal=gamma, optimized=False
    )
    prediction = {
        "predictions": float(fitted.forecast(steps=1)[0]),
        "statsmodels": statsmodels.__version__,
    }
    print(json.dumps(prediction), file=responses, flush=True)

"""Runs in Dynamo's environment, whose ARIMA brings statsmodels: what its Holt-Winters says next.

The arguments are those of `algorithms/holt_winters` of jthomperoo's predictive HPA (c91d0609), which
pins statsmodels 0.14.0; the release here is told in every answer.

A line in: `{"series": [...], "season": M, "gains": [ALPHA, BETA, GAMMA]}`. A line out:
`{"said": VALUE, "statsmodels": RELEASE}`; that script prints the value rounded up.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")
answers = sys.stdout
sys.stdout = sys.stderr

import statsmodels
from statsmodels.tsa.api import ExponentialSmoothing

for line in sys.stdin:
    asked = json.loads(line)
    alpha, beta, gamma = asked["gains"]
    model = ExponentialSmoothing(
        asked["series"],
        trend="additive",
        seasonal="additive",
        seasonal_periods=asked["season"],
        initialization_method="estimated",
        damped_trend=False,
    )
    fitted = model.fit(
        smoothing_level=alpha, smoothing_trend=beta, smoothing_seasonal=gamma, optimized=False
    )
    said = {"said": float(fitted.forecast(steps=1)[0]), "statsmodels": statsmodels.__version__}
    print(json.dumps(said), file=answers, flush=True)

"""Runs in Dynamo's own environment: single decisions of its planner, decode workers alone.

A line in is one of
- `{"plan": "throughput", "requests": N, "interval": S, "engine_rps": R}`: replicas for a
  predicted number of requests, as its throughput planner has it. What one engine can take is
  given, in the place of its performance model, which needs engines to learn from.
- `{"plan": "load", "workers": N, "expected": M, "usage": [U, ...]}`: its load planner under the
  default target (static thresholds), `usage` being each worker's KV cache in use (1: full).

A line out: `{"replicas": N}`, null where it leaves the count as it is.
"""

import json
import logging
import sys
from types import SimpleNamespace

logging.disable(logging.ERROR)
answers = sys.stdout
sys.stdout = sys.stderr

from dynamo.common.forward_pass_metrics import (
    ForwardPassMetrics,
    ScheduledRequestMetrics,
)
from dynamo.planner.config.planner_config import PlannerConfig
from dynamo.planner.core.state_machine import PlannerScalingState
from dynamo.planner.core.types import (
    EngineCapabilities,
    FpmObservations,
    TrafficObservation,
    WorkerCapabilities,
    WorkerCounts,
)

CACHE_TOKENS = 1_000_000_000


def planner(**differing):
    """Its planner for decode workers of one GPU each, with as many GPUs as it likes."""
    config = PlannerConfig.model_construct(mode="decode", max_gpu_budget=-1, **differing)
    able = WorkerCapabilities(decode=EngineCapabilities(num_gpu=1, max_kv_tokens=CACHE_TOKENS))
    return PlannerScalingState(config, able)


def throughput(asked):
    state = planner(
        optimization_target="load", enable_throughput_scaling=True, enable_load_scaling=False
    )
    engine = SimpleNamespace(rps=asked["engine_rps"], itl_ms=0.0, eligible=True)
    state.install_regressions(
        decode=SimpleNamespace(find_engine_capacity_rps=lambda **given: engine)
    )
    return state.advance_throughput_from_prediction(
        TrafficObservation(asked["interval"], asked["requests"], 1.0, 1.0),
        predicted_num_req=asked["requests"],
        predicted_isl=1.0,
        predicted_osl=1.0,
        predicted_kv_hit_rate=None,
    )


def load(asked):
    state = planner(
        optimization_target="throughput", enable_throughput_scaling=False, enable_load_scaling=True
    )
    state._update_inventory(
        WorkerCounts(ready_num_decode=asked["workers"], expected_num_decode=asked["expected"])
    )
    seen = {
        (f"w{number}", 0): ForwardPassMetrics(
            worker_id=f"w{number}",
            scheduled_requests=ScheduledRequestMetrics(
                sum_decode_kv_tokens=round(used * CACHE_TOKENS)
            ),
        )
        for number, used in enumerate(asked["usage"])
    }
    return state.advance_load(FpmObservations(decode=seen))


for line in sys.stdin:
    asked = json.loads(line)
    decision = {"throughput": throughput, "load": load}[asked["plan"]](asked)
    answer = {"replicas": None if decision is None else decision.num_decode}
    print(json.dumps(answer), file=answers, flush=True)

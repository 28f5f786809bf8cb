"""Runs in Dynamo's own environment: single decisions of its planner, with one pool of workers.

A line in is one of
- `{"plan": "throughput", "requests": N, "interval": S, "engine_rps": R}`: replicas for a
  predicted number of requests, by its throughput planner. The capacity of an engine is given, in place of its performance model,
  which learns from engines.
- `{"plan": "load", "workers": N, "expected": M, "usage": [U, ...]}`: its load planner under the
  default target (static thresholds), `usage` being each worker's KV cache in use (1: full).
- `{"plan": "latency", ..., "engine": E}`: the same under the target `sla`, by the time between
  tokens. E is `{"idle_ms", "filling_ms", "cache_tokens", "request_tokens", "objective_ms"}`: its
  performance model is shown iterations of idle + filling x usage.
- `{"plan": "hybrid", ..., "requests": N, "interval": S, "engine_rps": R}`: the throughput planner
  first, then the load planner over its floor, both of one planner.

A line out: `{"replicas": N}`, null where it leaves the count as it is.
"""

import json
import logging
import sys
from types import SimpleNamespace

logging.disable(logging.ERROR)
responses = sys.stdout
sys.stdout = sys.stderr

from dynamo.common.forward_pass_metrics import (
    ForwardPassMetrics,
    QueuedRequestMetrics,
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


def planner(cache_tokens=CACHE_TOKENS, **differing):
    """Return its planner for workers of one GPU each, without a GPU limit."""
    config = PlannerConfig.model_construct(mode="agg", max_gpu_budget=-1, **differing)
    engine = EngineCapabilities(
        num_gpu=1, max_kv_tokens=cache_tokens, max_num_batched_tokens=8192, max_num_seqs=512
    )
    return PlannerScalingState(config, WorkerCapabilities(decode=engine))


def throughput(request):
    state = planner(
        optimization_target="load", enable_throughput_scaling=True, enable_load_scaling=False
    )
    engine = SimpleNamespace(rps=request["engine_rps"], itl_ms=0.0, ttft_ms=0.0, eligible=True)
    state.install_regressions(agg=SimpleNamespace(find_engine_capacity_rps=lambda **given: engine))
    return predicted(state, request)


def predicted(state, request):
    return state.advance_throughput_from_prediction(
        TrafficObservation(request["interval"], request["requests"], 1.0, 1.0),
        predicted_num_req=request["requests"],
        predicted_isl=1.0,
        predicted_osl=1.0,
        predicted_kv_hit_rate=None,
    )


def load(request):
    state = planner(
        optimization_target="throughput", enable_throughput_scaling=False, enable_load_scaling=True
    )
    return load_decision(state, request, CACHE_TOKENS, 0)


def load_decision(state, request, cache_tokens, request_tokens):
    """Return its load planner's decision for workers with a cache usage; usage over 1 waits."""
    state._update_inventory(
        WorkerCounts(ready_num_decode=request["workers"], expected_num_decode=request["expected"])
    )

    def requests(tokens):
        return round(tokens / request_tokens) if request_tokens else 0

    seen = {}
    for number, used in enumerate(request["usage"]):
        running = round(min(used, 1.0) * cache_tokens)
        waiting = round(max(used - 1.0, 0.0) * cache_tokens)
        seen[(f"w{number}", 0)] = ForwardPassMetrics(
            worker_id=f"w{number}",
            scheduled_requests=ScheduledRequestMetrics(
                num_decode_requests=requests(running), sum_decode_kv_tokens=running
            ),
            queued_requests=QueuedRequestMetrics(
                num_decode_requests=requests(waiting), sum_decode_kv_tokens=waiting
            ),
        )
    return state.advance_load(FpmObservations(decode=seen))


def by_latencies(engine, hybrid):
    state = planner(
        cache_tokens=engine["cache_tokens"],
        optimization_target="sla",
        itl_ms=engine["objective_ms"],
        enable_throughput_scaling=hybrid,
        enable_load_scaling=True,
    )
    most, tokens = engine["cache_tokens"], engine["request_tokens"]
    shown = []
    for requests in range(0, round(most / tokens) + 1, 15):
        kept = requests * tokens
        wall_ms = engine["idle_ms"] + engine["filling_ms"] * kept / most
        shown.append(
            ForwardPassMetrics(
                worker_id="shown",
                wall_time=wall_ms / 1000,
                scheduled_requests=ScheduledRequestMetrics(
                    num_decode_requests=requests, sum_decode_kv_tokens=kept
                ),
            )
        )
    state.load_benchmark_fpms(agg_fpms=shown)
    return state


def latency(request):
    engine = request["engine"]
    state = by_latencies(engine, hybrid=False)
    return load_decision(state, request, engine["cache_tokens"], engine["request_tokens"])


def hybrid(request):
    engine = request["engine"]
    state = by_latencies(engine, hybrid=True)
    taken = SimpleNamespace(rps=request["engine_rps"], itl_ms=0.0, ttft_ms=0.0, eligible=True)
    state.agg_regression.find_engine_capacity_rps = lambda **given: taken
    if predicted(state, request) is not None:
        raise RuntimeError("the throughput planner decided by itself, not by a floor")
    return load_decision(state, request, engine["cache_tokens"], engine["request_tokens"])


PLANS = {"throughput": throughput, "load": load, "latency": latency, "hybrid": hybrid}

for line in sys.stdin:
    request = json.loads(line)
    decision = PLANS[request["plan"]](request)
    answer = {"replicas": None if decision is None else decision.num_decode}
    print(json.dumps(answer), file=responses, flush=True)

"""Runs in Dynamo's own environment: single decisions of its planner, with one pool of workers.

A line in is one of
- `{"plan": "throughput", "requests": N, "interval": S, "engine_rps": R}`: replicas for a
  predicted number of requests, as its throughput planner has it. What one engine can take is
  given, in the place of its performance model, which needs engines to learn from.
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
answers = sys.stdout
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
    """Its planner for whole workers of one GPU each, with as many GPUs as it likes."""
    config = PlannerConfig.model_construct(mode="agg", max_gpu_budget=-1, **differing)
    engine = EngineCapabilities(
        num_gpu=1, max_kv_tokens=cache_tokens, max_num_batched_tokens=8192, max_num_seqs=512
    )
    return PlannerScalingState(config, WorkerCapabilities(decode=engine))


def throughput(asked):
    state = planner(
        optimization_target="load", enable_throughput_scaling=True, enable_load_scaling=False
    )
    engine = SimpleNamespace(rps=asked["engine_rps"], itl_ms=0.0, ttft_ms=0.0, eligible=True)
    state.install_regressions(agg=SimpleNamespace(find_engine_capacity_rps=lambda **given: engine))
    return predicted(state, asked)


def predicted(state, asked):
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
    return looked(state, asked, CACHE_TOKENS, 0)


def looked(state, asked, cache_tokens, request_tokens):
    """What its load planner says of workers whose caches are so full; what is over 1 waits."""
    state._update_inventory(
        WorkerCounts(ready_num_decode=asked["workers"], expected_num_decode=asked["expected"])
    )

    def requests(tokens):
        return round(tokens / request_tokens) if request_tokens else 0

    seen = {}
    for number, used in enumerate(asked["usage"]):
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


def latency(asked):
    engine = asked["engine"]
    state = by_latencies(engine, hybrid=False)
    return looked(state, asked, engine["cache_tokens"], engine["request_tokens"])


def hybrid(asked):
    engine = asked["engine"]
    state = by_latencies(engine, hybrid=True)
    taken = SimpleNamespace(rps=asked["engine_rps"], itl_ms=0.0, ttft_ms=0.0, eligible=True)
    state.agg_regression.find_engine_capacity_rps = lambda **given: taken
    if predicted(state, asked) is not None:
        raise RuntimeError("the throughput planner decided by itself, not by a floor")
    return looked(state, asked, engine["cache_tokens"], engine["request_tokens"])


PLANS = {"throughput": throughput, "load": load, "latency": latency, "hybrid": hybrid}

for line in sys.stdin:
    asked = json.loads(line)
    decision = PLANS[asked["plan"]](asked)
    answer = {"replicas": None if decision is None else decision.num_decode}
    print(json.dumps(answer), file=answers, flush=True)

"""Runs in Ray's own environment: Ray Serve's default autoscaling policy, step by step.

A line in: `{"period": S, "target": T, "steps": [[running, ongoing], ...], "first": N}`: at each
step, S seconds apart, the running replicas and the ongoing requests over its look-back. `first`
is the count at the start. A line out: `{"targets": [...]}`, the target count after each step.
All else are its defaults.
"""

import json
import sys

responses = sys.stdout
sys.stdout = sys.stderr

from ray.serve import autoscaling_policy as policy
from ray.serve.config import AutoscalingConfig, AutoscalingContext


class Clock:
    """The policy reads the time of day; here it stands where the story is."""

    now = 0.0

    def time(self):
        return self.now


clock = policy.time = Clock()
decide = policy._apply_autoscaling_config(policy.replica_queue_length_autoscaling_policy)


def play(request):
    config = AutoscalingConfig(
        min_replicas=1, max_replicas=1_000_000, target_ongoing_requests=request["target"]
    )
    target, state, targets = request["first"], {}, []
    for step, (running, ongoing) in enumerate(request["steps"]):
        clock.now = 1e9 + step * request["period"]
        context = AutoscalingContext(
            deployment_id=None,
            deployment_name="",
            app_name=None,
            current_num_replicas=running,
            target_num_replicas=target,
            running_replicas=[],
            total_num_requests=ongoing,
            total_queued_requests=None,
            aggregated_metrics=None,
            raw_metrics=None,
            capacity_adjusted_min_replicas=1,
            capacity_adjusted_max_replicas=1_000_000,
            policy_state=state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=clock.now,
            config=config,
        )
        target, state = decide(context)
        target = max(1, target)
        targets.append(target)
    return targets


for line in sys.stdin:
    print(json.dumps({"targets": play(json.loads(line))}), file=responses, flush=True)

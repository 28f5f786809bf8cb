"""CPU of the admission core for one request: arrival, end of another one, dispatch.

No socket and no event loop: the classes that the gateway and the request simulator run.
"""

from __future__ import annotations

import random
import time

from r1_common.contracts.priority_classes import CLASSES, ClassPolicy
from r1_gateway.admission.admission_queue import Admission
from r1_gateway.admission.class_queue import FifoQueue
from r1_gateway.admission.endpoint_pool import EndpointPool
from r1_gateway.admission.fair_share_queue import FairShareQueue
from r1_gateway.admission.ticket import Ticket
from r1_gateway.tenants.caller import Caller

REQUESTS = 20_000
ROUNDS = 5
SEATS = 4
NEVER = 1e6


def request_us(pods: int, queued: int, tenants: int, *, fair: bool) -> float:
    """Microseconds of CPU per request with ``queued`` requests and all seats in use, best round."""
    pool = EndpointPool()
    pool.update({f"pod-{number}": True for number in range(pods)}, SEATS)
    policies = [ClassPolicy(10**6, NEVER, NEVER)] * len(CLASSES)
    admission: Admission[int] = Admission(policies, pool, FairShareQueue if fair else FifoQueue)
    callers = [Caller(f"tenant-{number}") for number in range(tenants)]
    order = random.Random(1)  # noqa: S311 - no secret
    plan = [(order.choice(CLASSES), order.choice(callers)) for _ in range(REQUESTS)]
    running: list[Ticket[int]] = []
    now = 0.0
    for number in range(pods * SEATS + queued):
        klass, caller = plan[number % REQUESTS]
        outcome = admission.offer(0, klass, now, caller=caller, cost=100.0)
        if isinstance(outcome, Ticket) and number < pods * SEATS:
            running.append(outcome)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for number, (klass, caller) in enumerate(plan):
            now += 0.001
            admission.offer(0, klass, now, caller=caller, cost=100.0)
            place = number % len(running)
            admission.finish(running[place], now, 120.0)
            admission.expire(now)
            started = admission.start_next(now)
            assert started is not None  # noqa: S101 - a seat was freed
            running[place] = started
        best = min(best, time.process_time() - began)
    return best / REQUESTS * 1e6

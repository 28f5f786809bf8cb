"""Draining engines that cut their streams on SIGTERM.

The kubelet runs preStop before SIGTERM, and the pod has left the endpoints by then: so it is
enough to wait there until the engine's own counter of running requests reads zero. The
engines' images have Python; the script uses nothing beyond its standard library.
"""

from typing import Any

from r1_operator.plan.children.engines.bundled import LEAVE_SECONDS
from r1_operator.plan.children.engines.start import Request

SCRIPT = """\
import sys, time, urllib.request
url, metric, leave, limit = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
end = time.monotonic() + leave + limit
time.sleep(leave)
while time.monotonic() < end:
    try:
        lines = urllib.request.urlopen(url, timeout=2).read().decode().splitlines()
    except OSError:
        break
    running = [line for line in lines if line.startswith((metric + '{', metric + ' '))]
    if not any(float(line.rsplit(' ', 1)[1]) for line in running):
        break
    time.sleep(0.5)
"""


def wait_until_idle(metric: str, request: Request) -> dict[str, Any]:
    """A preStop handler that waits until the gauge `metric` is zero, at most drainSeconds."""
    url = f"http://127.0.0.1:{request.port}/metrics"
    words = ("python3", "-c", SCRIPT, url, metric, LEAVE_SECONDS, request.drain_seconds)
    return {"exec": {"command": [str(word) for word in words]}}

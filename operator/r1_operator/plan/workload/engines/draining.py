"""Drain of engines that end their streams on SIGTERM.

The kubelet runs preStop before SIGTERM, and the pod has left the endpoints by then. So preStop waits until
the engine's own gauges of running and waiting requests are zero. The engines' images have Python; the
script uses its standard library alone.
"""

from typing import Any

from r1_operator.plan.workload.engines.start import LEAVE_SECONDS, EngineStartInput

SCRIPT = """\
import errno, http.client, os, re, signal, sys, time, urllib.request
port, leave, limit, *gauges = sys.argv[1:]
end = time.monotonic() + float(leave) + float(limit)
hosts = [host for host in (os.environ.get('POD_IP'), '127.0.0.1', '::1') if host]
sample = re.compile('(' + '|'.join(map(re.escape, gauges)) + r')(?:[{].*[}])?\\s+(\\S+).*')
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
nothing_listens = (
    errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH)

def late(*_):
    raise TimeoutError

def ask(host):
    # The timer bounds the whole answer; urlopen's timeout bounds each read of it.
    url = 'http://%s:%s/metrics' % ('[%s]' % host if ':' in host else host, port)
    signal.setitimer(signal.ITIMER_REAL, max(0.1, min(5, end - time.monotonic())))
    try:
        with direct.open(url, timeout=5) as answer:
            return answer.read().decode()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)

def requests():
    # Requests in the engine; None where that is not known, 'refused' where nothing listens.
    for host in hosts:
        try:
            text = ask(host)
            found = [match for match in map(sample.fullmatch, text.splitlines()) if match]
            if gauges[0] in [match[1] for match in found]:
                return sum(float(match[2]) for match in found)
        except (OSError, ValueError, http.client.HTTPException) as error:
            cause = getattr(error, 'reason', error)
            if getattr(cause, 'errno', None) in nothing_listens:
                continue
        return None
    return 'refused'

signal.signal(signal.SIGALRM, late)
time.sleep(float(leave))
calm = 0
while calm < 10 and time.monotonic() < end:
    try:
        state = requests()
    except OSError:
        state = None
    # Idle twice in a row, or nothing listens ten times in a row.
    calm = calm + 5 if state == 0 else calm + 1 if state == 'refused' else 0
    time.sleep(0.5 if calm < 10 else 0)
"""


def wait_until_idle(gauges: tuple[str, ...], request: EngineStartInput) -> dict[str, Any]:
    """Return a preStop handler that waits until the `gauges` are zero, at most drainSeconds.

    The first gauge counts running requests; a response without it counts as busy.
    """
    words = ("python3", "-c", SCRIPT, request.port, LEAVE_SECONDS, request.drain_seconds, *gauges)
    return {"exec": {"command": [str(word) for word in words]}}

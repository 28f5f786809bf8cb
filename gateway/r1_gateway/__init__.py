"""OpenAI-compatible gateway in front of every R1Inference.

One asyncio process: a raw HTTP/1.1 proxy with its admission queues in the same event loop, so a freed
seat is assigned to the next request in the callback that freed it.  Modules, lowest layer first:

- ``admission``: priority classes, queues, seats on pods, circuit breakers (no I/O; the time is passed);
- ``http``: heads, bodies, streams, connections to pods, and the ``Reply`` protocol;
- ``routes``: the specification of a route, its statistics, and a request on its way through it;
- ``gateway``: all routes, the choice of one for a request, and the gateway's own responses;
- ``client_connection``: the connection of a client, which implements ``Reply``;
- ``kube``, ``static_config``: sources of routes, pods and keys;
- ``telemetry``: signals, metrics, access log;
- ``admin``, ``server``, ``options``: the process.
"""

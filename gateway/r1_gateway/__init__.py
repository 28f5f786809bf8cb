"""The OpenAI-compatible door in front of every R1Inference.

One asyncio process: a raw HTTP/1.1 proxy whose admission queues live in the same loop, so that a
freed seat is given to the next request in the callback that freed it.  The modules, from pure to
wired:

- ``classes``, ``keys``, ``route_spec``: who asks, how urgent it is, and what a route promises;
- ``routing``, ``admission``: seats on pods, and who gets the next one (no I/O, the clock is passed);
- ``statistics``: what was counted; ``signals`` and ``metrics`` are its two faces;
- ``upstream``, ``response_head``, ``exchange``, ``client_connection``: bytes in, bytes out;
- ``route``, ``door``: one resource at run time, and all of them;
- ``discovery``, ``static_config``: where routes and pods come from;
- ``admin``, ``server``, ``options``: the process.
"""

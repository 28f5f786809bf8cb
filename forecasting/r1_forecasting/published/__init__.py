"""The forecast for everyone: what other autoscalers may see of it, and the two doors they use.

Pure: what is published (``publication``, ``catalogue``, ``trigger``), the value that is shown
(``value``), the documents of ``external.metrics.k8s.io`` (``external_metrics``) and whom its
door trusts (``front_proxy``). I/O: KEDA's gRPC (``keda``), the aggregated API (``aggregated``,
``tls_door``) and the files they follow.
"""

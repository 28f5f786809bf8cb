"""Published forecasts: values for other autoscalers, by the external metrics API and by KEDA.

Pure: the published forecasts (``publication``, ``catalogue``, ``keda_trigger``), their values
(``published_value``), the objects of ``external.metrics.k8s.io`` (``external_metrics``) and the
trusted front proxy (``front_proxy``). I/O: KEDA's gRPC (``keda``), the aggregated API
(``external_metrics_api``, ``tls_listener``) and the watched files.
"""

"""The ServiceMonitor, where the Prometheus operator's API exists."""

from typing import Any

from r1_operator.api import names
from r1_operator.api.v1 import R1Inference
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload.metadata import child_metadata, selector


def build_service_monitor(resource: R1Inference, defaults: Defaults) -> dict[str, Any]:
    """A ServiceMonitor that scrapes every model pod."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": child_metadata(resource, extra_labels=defaults.monitor_labels),
        "spec": {
            "selector": {"matchLabels": selector(resource)},
            "endpoints": [
                {
                    "port": names.PORT_NAME,
                    "path": "/metrics",
                    "interval": defaults.monitor_interval,
                }
            ],
        },
    }

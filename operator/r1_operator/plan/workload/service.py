"""The Service: a stable name, and the EndpointSlices that the gateways read."""

from typing import Any

from r1_operator.api import names
from r1_operator.api.v1 import R1Inference
from r1_operator.plan.workload.metadata import child_metadata, selector


def build_service(resource: R1Inference) -> dict[str, Any]:
    """A ClusterIP Service with the one port `http`."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(resource),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(resource),
            "ports": [
                {
                    "name": names.PORT_NAME,
                    "port": names.PORT,
                    "targetPort": names.PORT_NAME,
                    "protocol": "TCP",
                }
            ],
        },
    }

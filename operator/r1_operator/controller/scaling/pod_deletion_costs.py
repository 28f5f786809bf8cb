"""Deletion costs on pods: a hint for the ReplicaSet controller, never a precondition.

The annotation is applied under its own field manager. So it is the only field of a pod that the operator
owns, and applying nothing removes it.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from r1_operator.api.names import POD_DELETION_COST
from r1_operator.kube.client import Api, Conflict, KubeApiError, NotFound, NotLeader
from r1_operator.kube.kinds import POD
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.placement.pod_deletion_cost import DeletionCost

logger = logging.getLogger(__name__)

MANAGER: Final = "r1-operator-victims"


async def write_deletion_cost(
    api: Api, views: Stores, metrics: OperatorMetrics, namespace: str, planned: DeletionCost
) -> int:
    """Write one cost and return the number of writes (0 where the pod is gone or the write failed).

    Raises:
        NotLeader: this process may not write any more.
    """
    pod = planned.pod
    # With its uid, a pod that is gone gives a conflict and is not created again.
    metadata: dict[str, Any] = {"name": pod.name, "namespace": namespace, "uid": pod.uid}
    if planned.cost is not None:
        metadata["annotations"] = {POD_DELETION_COST: str(planned.cost)}
    manifest = {"apiVersion": POD.api_version, "kind": POD.name, "metadata": metadata}
    try:
        answer = await api.apply(POD, namespace, pod.name, manifest, manager=MANAGER)
    except (NotFound, Conflict):
        return 0
    except NotLeader:
        raise
    except KubeApiError as error:
        logger.warning(
            "%s/%s: the deletion cost could not be written, a busier pod may stop: %s",
            namespace,
            pod.name,
            error,
        )
        return 0
    views.put(POD, answer)
    why = "spare" if planned.cost is None else "victim"
    metrics.writes.labels(POD.name, why).inc()
    logger.info("%s/%s: %s with %g requests in flight", namespace, pod.name, why, planned.load)
    return 1

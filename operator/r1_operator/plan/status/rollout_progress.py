"""How far the pods are: counts from the pods themselves, the move from the Deployment."""

from dataclasses import dataclass

from r1_operator.plan.snapshot import ABSENT, Object, Observed, condition_of
from r1_operator.plan.workload.revision import is_applied


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """Pods by state.

    `current`: the Deployment has the newest spec and its controller has seen it. `planned`: its
    count. Scaling alone does not end `current`: replicas that serve go on being ready.
    """

    desired: int
    planned: int | None
    replicas: int
    ready: int
    available: int
    updated: int
    current: bool
    deadline_exceeded: bool

    @property
    def settled(self) -> bool:
        """Exactly the pods that should be, all of the newest template and serving."""
        counts = {self.planned, self.replicas, self.ready, self.available, self.updated}
        return self.current and counts == {self.desired}

    @property
    def complete(self) -> bool:
        """Enough serving pods of the newest template (perhaps too many, or old ones leaving)."""
        return self.current and min(self.available, self.updated) >= self.desired

    @property
    def rolling(self) -> bool:
        """Pods of an older template are being replaced."""
        return self.updated < min(self.replicas, self.desired)


def rollout_progress(observed: Observed, desired: int) -> RolloutProgress:
    """Count. Terminating pods exist but do not serve; ended ones do not exist."""
    pods = [pod for pod in observed.pods if not pod.ended]
    deployment: Object = {} if observed.deployment is ABSENT else observed.deployment
    status = deployment.get("status") or {}
    seen = status.get("observedGeneration", -1)
    generation = (deployment.get("metadata") or {}).get("generation", 0)
    moving = condition_of(observed.deployment, "Progressing")
    return RolloutProgress(
        desired=desired,
        planned=(deployment.get("spec") or {}).get("replicas"),
        replicas=len(pods),
        ready=sum(pod.ready for pod in pods),
        available=sum(pod.serves for pod in pods),
        updated=status.get("updatedReplicas") or 0,
        current=seen >= generation
        and is_applied(observed.resource, observed.defaults, observed.deployment),
        deadline_exceeded=moving.get("reason") == "ProgressDeadlineExceeded",
    )

"""Progress of a rollout: counts from the pods, conditions from the Deployment."""

from dataclasses import dataclass

from r1_operator.plan.snapshot import ABSENT, Object, Observed, condition_of
from r1_operator.plan.workload.revision import is_applied


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """Pods by state.

    `current`: the Deployment has the newest spec and its controller has observed it. `planned`: its
    replica count. A change of the count alone does not end `current`.
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
        """Exactly the desired pods exist, all up to date and ready."""
        counts = {self.planned, self.replicas, self.ready, self.available, self.updated}
        return self.current and counts == {self.desired}

    @property
    def complete(self) -> bool:
        """Enough up-to-date pods are ready (there may be too many, or old ones terminating)."""
        return self.current and min(self.available, self.updated) >= self.desired

    @property
    def rolling(self) -> bool:
        """Whether pods of an older template are being replaced."""
        return self.updated < min(self.replicas, self.desired)


def rollout_progress(observed: Observed, desired: int) -> RolloutProgress:
    """Count the pods. Terminating pods exist but do not serve; ended pods do not count."""
    pods = [pod for pod in observed.pods if not pod.ended]
    deployment: Object = {} if observed.deployment is ABSENT else observed.deployment
    status = deployment.get("status") or {}
    observed_generation = status.get("observedGeneration", -1)
    generation = (deployment.get("metadata") or {}).get("generation", 0)
    moving = condition_of(observed.deployment, "Progressing")
    return RolloutProgress(
        desired=desired,
        planned=(deployment.get("spec") or {}).get("replicas"),
        replicas=len(pods),
        ready=sum(pod.ready for pod in pods),
        available=sum(pod.serves for pod in pods),
        updated=status.get("updatedReplicas") or 0,
        current=observed_generation >= generation
        and is_applied(observed.resource, observed.defaults, observed.deployment),
        deadline_exceeded=moving.get("reason") == "ProgressDeadlineExceeded",
    )

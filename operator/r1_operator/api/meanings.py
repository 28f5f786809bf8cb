"""What each condition and reason means, and what to do: the text of the reference page.

Reasons of the scaling decision and of the forecaster are defined where they are made
(`plan/decision.py`, the forecast contract); here they get their explanation.
"""

from typing import Final

from r1_operator.api.names import (
    BacktestCondition,
    BacktestReason,
    ConditionReason,
    ConditionType,
    ForecastApprovalReason,
)

Meanings = dict[str, tuple[str, str]]

CONDITIONS: Final[dict[ConditionType, str]] = {
    ConditionType.READY: "The wanted number of replicas of the newest spec can serve, or the resource "
    "sleeps on purpose. What `kubectl wait` asks for.",
    ConditionType.AVAILABLE: "At least one replica, of whatever spec, can serve.",
    ConditionType.PROGRESSING: "Something is on its way: pods start, are replaced or leave.",
    ConditionType.SCALING_ACTIVE: "Load is known and sets the count.",
    ConditionType.DEGRADED: "Something keeps replicas from serving and will not pass by itself.",
    ConditionType.MODEL_NAME_CONFLICT: "A model name of this resource reaches another one at the "
    "gateways; namespace/name always reaches this one.",
    ConditionType.SCALING_LIMITED: "A limit keeps the count off what the load asks for.",
    ConditionType.FORECAST_UNAVAILABLE: "A forecast is wanted and there is none; scaling goes on "
    "without.",
    ConditionType.FORECAST_NOT_APPROVED: "The R1Backtest of forecast.backtestName does not let the forecast "
    "act; scaling goes on without.",
}

_SUMMARY: Final[Meanings] = {
    ConditionReason.ALL_REPLICAS_READY: ("All wanted replicas of the newest spec can serve.", ""),
    ConditionReason.SCALED_TO_ZERO: (
        "No replica is wanted now.",
        "Send a request, or raise minReplicas.",
    ),
    ConditionReason.SERVING: ("At least one replica can serve.", ""),
    ConditionReason.NO_REPLICAS_READY: ("None can.", "See Ready for why."),
    ConditionReason.WAITING_FOR_REPLICAS: ("Pods are starting.", "Wait."),
    ConditionReason.APPLYING: ("The newest spec is being applied.", "Wait."),
}

_PROGRESS: Final[Meanings] = {
    ConditionReason.STARTING: ("The first replicas load.", "Wait."),
    ConditionReason.ROLLING_OUT: ("Replicas of the newest spec replace older ones.", "Wait."),
    ConditionReason.SCALING_UP: ("More replicas load.", "Wait."),
    ConditionReason.SCALING_DOWN: ("Replicas finish their requests and leave.", "Wait."),
    ConditionReason.UP_TO_DATE: ("Everything is as it should be.", ""),
    ConditionReason.DEADLINE_EXCEEDED: (
        "Nothing moved for spec.rollout.progressDeadlineSeconds.",
        "See the pods' logs; raise the deadline if the model loads slowly.",
    ),
}

_PROBLEMS: Final[Meanings] = {
    ConditionReason.INVALID_SPEC: (
        "The spec was taken, yet no pod can be made of it.",
        "Correct the field that the message names.",
    ),
    ConditionReason.MODEL_SOURCE_UNUSABLE: (
        "The engine cannot load the model source.",
        "Set spec.model.source to a claim or a path.",
    ),
    ConditionReason.TOO_MANY_ACCELERATORS: (
        "A replica of the engine Bundled holds more accelerators than the one that it computes on.",
        "Set it to 1 and raise the replicas, or set spec.engine.type to vLLM or SGLang.",
    ),
    ConditionReason.CHILD_NOT_OWNED: (
        "An object of the child's name belongs to somebody else.",
        "Delete it or choose another name.",
    ),
    ConditionReason.CHILD_REJECTED: (
        "The API server refused a child.",
        "Correct spec.template or spec.resources, as the message says.",
    ),
    ConditionReason.CHILD_NOT_APPLIED: (
        "A child could not be applied twice in a row: the API server or a webhook failed.",
        "The operator tries again by itself; see the message if it stays.",
    ),
    ConditionReason.MANIFEST_BUILD_FAILED: (
        "The operator failed to build the manifests: a fault of the operator.",
        "Report the message; undo the last change of the spec.",
    ),
    ConditionReason.MISSING_SECRET: ("A Secret, or a key in it, is missing.", "Create it."),
    ConditionReason.MISSING_CONFIG_MAP: ("A ConfigMap, or a key in it, is missing.", "Create it."),
    ConditionReason.MISSING_VOLUME_CLAIM: (
        "The PersistentVolumeClaim does not exist.",
        "Create it or correct its name.",
    ),
    ConditionReason.VOLUME_CLAIM_UNBOUND: (
        "The claim has no volume.",
        "Check its storage class and capacity.",
    ),
    ConditionReason.VOLUME_NOT_MOUNTED: ("A volume cannot be mounted.", "Check the volume."),
    ConditionReason.UNSCHEDULABLE: (
        "No node takes the pods.",
        "Add nodes, or lower replicas or resources; check tolerations and selectors.",
    ),
    ConditionReason.IMAGE_PULL_FAILED: (
        "The image cannot be pulled.",
        "Check spec.engine.image and the pull secret.",
    ),
    ConditionReason.CONTAINER_START_FAILED: (
        "The container cannot be started.",
        "Check the image, its command and spec.template.",
    ),
    ConditionReason.ENGINE_ARGUMENTS_REJECTED: (
        "The engine does not know its arguments.",
        "Correct spec.engine.args.",
    ),
    ConditionReason.MODEL_LOAD_FAILED: (
        "The model cannot be loaded.",
        "Check spec.model.source and spec.runtime.",
    ),
    ConditionReason.OUT_OF_MEMORY: (
        "A container used more memory than its limit; the message names it.",
        "Raise its memory limit; of the engine spec.resources.limits.memory, or lower spec.runtime.",
    ),
    ConditionReason.CRASH_LOOPING: (
        "A container ends again and again; the message names it.",
        "See its previous logs, with the command of the message.",
    ),
    ConditionReason.PODS_FAILED: (
        "Pods were rejected by the kubelet, evicted, or shut down with their node.",
        "See the kubelet's words in the message; check the nodes that it names.",
    ),
    ConditionReason.QUOTA_EXCEEDED: (
        "The namespace's quota is used up.",
        "Raise the ResourceQuota or lower the replicas.",
    ),
    ConditionReason.POD_REJECTED: (
        "The namespace does not admit the pods.",
        "Remove what spec.template loosens, or ask who owns the namespace.",
    ),
}

_NAMES: Final[Meanings] = {
    ConditionReason.NAME_TAKEN: (
        "The resource's own name belongs to an older resource of the same name in another namespace.",
        "Use namespace/name as the model name, or rename one of the two.",
    ),
    ConditionReason.ALIAS_TAKEN: (
        "An alias is the own name of another resource, or an alias of an older one.",
        "Choose another alias.",
    ),
}

_SCALING: Final[Meanings] = {
    ConditionReason.METRICS_AVAILABLE: ("Load is known and sets the count.", ""),
    ConditionReason.AUTOSCALING_OFF: ("spec.autoscaling is absent.", "Set it, or spec.replicas."),
    ConditionReason.DECISION_PENDING: ("The operator has just started.", "Wait."),
    "MetricsUnavailable": (
        "Load is not known: the count is held, never lowered.",
        "Check that the operator reaches the gateways.",
    ),
    "AtMaxReplicas": (
        "The load asks for more than maxReplicas.",
        "Raise maxReplicas or the target.",
    ),
    "AtGpuBudget": (
        "The load asks for more than budget.gpus allows.",
        "Raise budget.gpus, or let a replica carry more.",
    ),
    "AtCostBudget": (
        "The load asks for more than budget.cost allows.",
        "Raise budget.cost.limitPerHour, or let a replica carry more.",
    ),
    "AtPowerBudget": (
        "The load asks for more than budget.power allows.",
        "Raise budget.power.limitWatts, or cap the GPUs and lower wattsPerReplica.",
    ),
    "OverBudget": (
        "minReplicas asks for more than a budget allows; the minimum holds.",
        "Lower minReplicas, raise the budget, or take the GPUs out of spec.template.",
    ),
    "InsufficientCapacity": (
        "The load asks for more replicas than find a node (capacity.policy Bindable).",
        "Add nodes, free some, or set capacity.policy to Unlimited for a node autoscaler.",
    ),
    "RateLimited": ("behavior's policies bound the change.", "Wait, or widen them."),
}

_PROOFS: Final[Meanings] = {
    ForecastApprovalReason.BACKTEST_MISSING: (
        "There is no R1Backtest of that name in the namespace.",
        "Create it, or correct forecast.backtestName.",
    ),
    ForecastApprovalReason.BACKTEST_TARGET_MISMATCH: (
        "It tried another R1Inference.",
        "Name one whose inferenceName is this resource.",
    ),
    ForecastApprovalReason.BACKTEST_RUNNING: (
        "It has not ended.",
        "Wait; `kubectl get r1bt -o wide` says what for.",
    ),
    ForecastApprovalReason.BACKTEST_FAILED: (
        "It ended without a verdict.",
        "See its message, create a new one and name it.",
    ),
    ForecastApprovalReason.BACKTEST_STALE: (
        "It tried another spec.autoscaling than there is now, or ended more than 90 days ago.",
        "Create a new one and name it.",
    ),
    ForecastApprovalReason.BACKTEST_REJECTED: (
        "It found the policy dearer than its peer, or that it misses the objective.",
        "Change spec.autoscaling as the verdict says and try that.",
    ),
    ForecastApprovalReason.BACKTEST_NOT_READ: (
        "The operator has just started and has not read the backtests.",
        "Wait; if it stays, check that the CRD r1backtests is installed.",
    ),
}

REASONS: Final[dict[str, Meanings]] = {
    "Ready and Available": _SUMMARY,
    "Progressing": _PROGRESS,
    "Degraded (and Ready=False)": _PROBLEMS,
    "ModelNameConflict": _NAMES,
    "ScalingActive and ScalingLimited": _SCALING,
    "ForecastNotApproved": _PROOFS,
}
"""By the conditions that carry them. ForecastUnavailable carries the forecaster's own reasons."""


BACKTEST_CONDITIONS: Final[dict[BacktestCondition, str]] = {
    BacktestCondition.COMPLETE: "It has run and found a verdict. What `kubectl wait` asks for; its "
    "reason says what a pending one waits for.",
    BacktestCondition.FAILED: "It has ended without a verdict.",
    BacktestCondition.BLOCKED: "Its pod cannot start; after ten minutes it is given up, and the next "
    "one has its turn.",
    BacktestCondition.STALE: "The R1Inference scales by another spec.autoscaling by now.",
}

BACKTEST_REASONS: Final[dict[BacktestReason, tuple[str, str]]] = {
    BacktestReason.QUEUED: ("Another backtest runs; they run one at a time.", "Wait."),
    BacktestReason.INFERENCE_NOT_FOUND: (
        "There is no R1Inference of this name in the namespace.",
        "Create it, or delete this object.",
    ),
    BacktestReason.NO_AUTOSCALING: (
        "The R1Inference has no spec.autoscaling: there is no policy to try.",
        "Set it, or delete this object.",
    ),
    BacktestReason.NO_PROMETHEUS: (
        "The operator knows no Prometheus.",
        "Set the chart's value prometheus.url.",
    ),
    BacktestReason.NO_IMAGE: (
        "The operator knows no image to run it with.",
        "Set the chart's value backtest.image.",
    ),
    BacktestReason.JOB_REJECTED: (
        "The API server refuses the Job.",
        "See the message: a quota, a policy of the site, or the chart's values under backtest.",
    ),
    BacktestReason.JOB_NOT_CREATED: (
        "The Job could not be created: the API server or a webhook failed.",
        "The operator tries again by itself; see the message if it stays.",
    ),
    BacktestReason.JOB_NOT_READ: (
        "The Job could not be read, so nothing is known of its run.",
        "The operator tries again by itself; see the message if it stays.",
    ),
    BacktestReason.JOB_BUILD_FAILED: (
        "The operator cannot build the Job.",
        "Correct the chart's values under backtest, as the message says.",
    ),
    BacktestReason.INVALID_SPEC: (
        "The spec cannot be read: the object is from before a stricter CRD.",
        "Create a new R1Backtest.",
    ),
    BacktestReason.RUNNING: ("Its Job runs.", "Wait; the log of its pod says what is played."),
    BacktestReason.UNSCHEDULABLE: (
        "No node takes its pod.",
        "Add room, or lower the chart's value backtest.resources; check its node selector.",
    ),
    BacktestReason.IMAGE_PULL_FAILED: (
        "Its image cannot be pulled.",
        "Correct the chart's value backtest.image, or the pull secret.",
    ),
    BacktestReason.CONTAINER_START_FAILED: (
        "Its container cannot be started.",
        "See the message: most often the chart's values under backtest.",
    ),
    BacktestReason.POD_NOT_CREATED: (
        "Its Job has no pod.",
        "Read the Job's events: a quota or a policy of the operator's namespace.",
    ),
    BacktestReason.POD_NOT_STARTED: (
        "Its pod is on a node and does not start.",
        "Read the pod's events.",
    ),
    BacktestReason.BACKTEST_COMPLETED: ("It ran and found a verdict.", ""),
    BacktestReason.TOO_LITTLE_HISTORY: (
        "Prometheus holds no load of this resource, or too little.",
        "Wait for history, or check that Prometheus scrapes the gateways.",
    ),
    BacktestReason.RUN_FAILED: ("It ended with an error.", "See the message and the pod's log."),
    BacktestReason.KILLED: (
        "Its process was killed, most often for its memory limit.",
        "Raise the chart's value backtest.resources.",
    ),
    BacktestReason.DEADLINE_EXCEEDED: (
        "It did not end within an hour.",
        "Ask for fewer policies or a shorter past, or give it more CPU.",
    ),
    BacktestReason.JOB_LOST: (
        "Its Job was deleted before it was finished.",
        "Create a new R1Backtest.",
    ),
    BacktestReason.NO_RESULT: (
        "It ended well and left no answer that can be read.",
        "Let image and operator be of one version.",
    ),
    BacktestReason.AUTOSCALING_CHANGED: (
        "spec.autoscaling is another one than was tried.",
        "Create a new R1Backtest.",
    ),
}

"""Texts of the reference page: the meaning of each condition and reason, and the action.

Reasons of scaling decisions and of the forecaster are defined in `plan/scaling/decision.py` and in
the forecast contract.
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
    ConditionType.READY: "All desired replicas of the newest spec can serve, or the resource is scaled "
    "to zero. `kubectl wait` uses this condition.",
    ConditionType.AVAILABLE: "At least one replica of any spec can serve.",
    ConditionType.PROGRESSING: "Pods are starting, being replaced or stopping.",
    ConditionType.SCALING_ACTIVE: "The load is known and sets the count.",
    ConditionType.DEGRADED: "A problem that does not pass by itself keeps replicas from serving.",
    ConditionType.MODEL_NAME_CONFLICT: "The gateways route a model name of this resource to another resource. The name"
    " namespace/name always reaches this one.",
    ConditionType.SCALING_LIMITED: "A limit keeps the count below the recommendation for the load.",
    ConditionType.FORECAST_UNAVAILABLE: "The spec configures a forecast, but none is available. Scaling follows the "
    "current load.",
    ConditionType.FORECAST_NOT_APPROVED: "The R1Backtest of forecast.backtestName does not approve the forecast. Scaling"
    " follows the current load.",
}

_SUMMARY: Final[Meanings] = {
    ConditionReason.ALL_REPLICAS_READY: (
        "All desired replicas of the newest spec can serve.",
        "",
    ),
    ConditionReason.SCALED_TO_ZERO: (
        "The desired count is 0.",
        "Send a request, or raise minReplicas.",
    ),
    ConditionReason.SERVING: (
        "At least one replica can serve.",
        "",
    ),
    ConditionReason.NO_REPLICAS_READY: (
        "No replica can serve.",
        "Read the message of Ready for the cause.",
    ),
    ConditionReason.WAITING_FOR_REPLICAS: (
        "Pods are starting.",
        "Wait.",
    ),
    ConditionReason.APPLYING: (
        "The operator applies the newest spec.",
        "Wait.",
    ),
}

_PROGRESS: Final[Meanings] = {
    ConditionReason.STARTING: (
        "The first replicas load the model.",
        "Wait.",
    ),
    ConditionReason.ROLLING_OUT: (
        "Replicas of the newest spec replace older replicas.",
        "Wait.",
    ),
    ConditionReason.SCALING_UP: (
        "Additional replicas load the model.",
        "Wait.",
    ),
    ConditionReason.SCALING_DOWN: (
        "Replicas finish their requests and stop.",
        "Wait.",
    ),
    ConditionReason.UP_TO_DATE: (
        "All replicas run the newest spec, and the count is the desired count.",
        "",
    ),
    ConditionReason.DEADLINE_EXCEEDED: (
        "The rollout made no progress for spec.rollout.progressDeadlineSeconds.",
        "Read the pods' logs. Raise the deadline if the model loads slowly.",
    ),
}

_PROBLEMS: Final[Meanings] = {
    ConditionReason.INVALID_SPEC: (
        "The API server accepted the spec, but no pod can be built from it.",
        "Correct the field that the message names.",
    ),
    ConditionReason.MODEL_SOURCE_UNUSABLE: (
        "The engine cannot load this kind of model source.",
        "Set spec.model.source to a claim or a path.",
    ),
    ConditionReason.TOO_MANY_ACCELERATORS: (
        (
            "A replica of the engine Bundled requests several accelerators that it cannot use "
            "together, such as MIG profiles or two kinds."
        ),
        "Request 1 accelerator, or whole GPUs of one vendor, or set spec.engine.type to vLLM or SGLang.",
    ),
    ConditionReason.CHILD_NOT_OWNED: (
        "An object with the name of a child exists and has another owner.",
        "Delete that object, or choose another name.",
    ),
    ConditionReason.CHILD_REJECTED: (
        "The API server rejected a child.",
        "Correct spec.template or spec.resources as the message says.",
    ),
    ConditionReason.CHILD_NOT_APPLIED: (
        "The apply of a child failed twice in a row: the API server or a webhook failed.",
        "Wait: the operator retries. Read the message if the condition stays.",
    ),
    ConditionReason.MANIFEST_BUILD_FAILED: (
        "The operator failed to build the manifests because of a bug in the operator.",
        "Report the message. Undo the last change of the spec.",
    ),
    ConditionReason.MISSING_SECRET: (
        "A Secret, or a key of a Secret, does not exist.",
        "Create it.",
    ),
    ConditionReason.MISSING_CONFIG_MAP: (
        "A ConfigMap, or a key of a ConfigMap, does not exist.",
        "Create it.",
    ),
    ConditionReason.MISSING_VOLUME_CLAIM: (
        "The PersistentVolumeClaim does not exist.",
        "Create it, or correct its name.",
    ),
    ConditionReason.VOLUME_CLAIM_UNBOUND: (
        "The PersistentVolumeClaim has no volume.",
        "Check its storage class and the storage capacity.",
    ),
    ConditionReason.VOLUME_NOT_MOUNTED: (
        "A volume cannot be mounted.",
        "Check the volume that the message names.",
    ),
    ConditionReason.UNSCHEDULABLE: (
        "The scheduler finds no node for the pods.",
        "Add nodes, or lower replicas or resources. Check tolerations and selectors.",
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
        "The engine rejects its arguments.",
        "Correct spec.engine.args.",
    ),
    ConditionReason.MODEL_LOAD_FAILED: (
        "The engine cannot load the model.",
        "Check spec.model.source and spec.runtime.",
    ),
    ConditionReason.OUT_OF_MEMORY: (
        "A container exceeded its memory limit. The message names the container.",
        (
            "Raise its memory limit. For the engine, raise spec.resources.limits.memory or "
            "lower the sizes in spec.runtime."
        ),
    ),
    ConditionReason.CRASH_LOOPING: (
        "A container exits again and again. The message names the container.",
        "Read its previous logs with the command in the message.",
    ),
    ConditionReason.PODS_FAILED: (
        "Pods were rejected by the kubelet, evicted, or shut down with their node.",
        "Read the kubelet's text in the message. Check the nodes that it names.",
    ),
    ConditionReason.QUOTA_EXCEEDED: (
        "The quota of the namespace is used up.",
        "Raise the ResourceQuota, or lower the replicas.",
    ),
    ConditionReason.POD_REJECTED: (
        "The Pod Security level of the namespace rejects the pods.",
        (
            "Remove the fields of spec.template that loosen security, or ask the owner of "
            "the namespace."
        ),
    ),
}

_NAMES: Final[Meanings] = {
    ConditionReason.NAME_TAKEN: (
        "An older resource of the same name in another namespace owns the name.",
        "Use namespace/name as the model name, or rename one of the two resources.",
    ),
    ConditionReason.ALIAS_TAKEN: (
        "An alias is the name of another resource, or an alias of an older resource.",
        "Choose another alias.",
    ),
}

_SCALING: Final[Meanings] = {
    ConditionReason.METRICS_AVAILABLE: (
        "The load is known and sets the count.",
        "",
    ),
    ConditionReason.AUTOSCALING_OFF: (
        "spec.autoscaling is absent, so spec.replicas sets the count.",
        "Set spec.autoscaling to scale by load.",
    ),
    ConditionReason.DECISION_PENDING: (
        "The operator has just started and has made no decision yet.",
        "Wait.",
    ),
    "MetricsUnavailable": (
        "Part of the load is not known. The count is not lowered. Known load may still raise it.",
        "Check that the operator reaches the gateways.",
    ),
    "AtMaxReplicas": (
        "The load needs more replicas than maxReplicas.",
        "Raise maxReplicas or the target.",
    ),
    "AtGpuBudget": (
        "The load needs more accelerators than budget.gpus.",
        "Raise budget.gpus, or raise the target of one replica.",
    ),
    "AtCostBudget": (
        "The load needs more replicas than budget.cost allows.",
        "Raise budget.cost.limitPerHour, or raise the target of one replica.",
    ),
    "AtPowerBudget": (
        "The load needs more replicas than budget.power allows.",
        "Raise budget.power.limitWatts, or cap the GPUs and lower wattsPerReplica.",
    ),
    "OverBudget": (
        "minReplicas exceeds a budget. minReplicas applies.",
        "Lower minReplicas, raise the budget, or remove the GPUs from spec.template.",
    ),
    "InsufficientCapacity": (
        "The load needs more replicas than the nodes can hold (capacity.policy Bindable).",
        "Add nodes, free capacity, or set capacity.policy to Unlimited for a node autoscaler.",
    ),
    "RateLimited": (
        "The policies of spec.autoscaling.behavior limit the change.",
        "Wait, or raise the policies.",
    ),
}

_FORECAST_APPROVAL: Final[Meanings] = {
    ForecastApprovalReason.BACKTEST_MISSING: (
        "The namespace has no R1Backtest of this name.",
        "Create it, or correct forecast.backtestName.",
    ),
    ForecastApprovalReason.BACKTEST_TARGET_MISMATCH: (
        "The R1Backtest tested another R1Inference.",
        "Name an R1Backtest whose inferenceName is this resource.",
    ),
    ForecastApprovalReason.BACKTEST_RUNNING: (
        "The R1Backtest is not finished.",
        "Wait. `kubectl get r1bt -o wide` shows the cause of a wait.",
    ),
    ForecastApprovalReason.BACKTEST_FAILED: (
        "The R1Backtest ended without a verdict.",
        "Read its message, then create a new R1Backtest and name it.",
    ),
    ForecastApprovalReason.BACKTEST_STALE: (
        "The R1Backtest tested another spec.autoscaling, or ended more than 90 days ago.",
        "Create a new R1Backtest and name it.",
    ),
    ForecastApprovalReason.BACKTEST_REJECTED: (
        (
            "The R1Backtest found that the policy is more expensive than its baseline, or "
            "misses the SLO."
        ),
        "Change spec.autoscaling as the verdict says, then run a new R1Backtest.",
    ),
    ForecastApprovalReason.BACKTEST_NOT_READ: (
        "The operator has just started and has not read the R1Backtests yet.",
        "Wait. If the reason stays, check that the CRD r1backtests is installed.",
    ),
}

_FORECAST: Final[Meanings] = {
    "Training": ("The models of this series are being trained.", "Wait."),
    "TooLittleHistory": (
        "The recorded load is shorter than a forecast needs.",
        "Wait, or lower forecast.seasonSeconds.",
    ),
    "PrometheusUnreachable": (
        "The forecaster cannot query Prometheus.",
        "Check prometheus.url, its credentials and the network policy.",
    ),
    "NoData": (
        "Prometheus has no recent sample of the load.",
        "Check that Prometheus scrapes the gateway, or correct forecast.query.",
    ),
    "PartialData": (
        "Prometheus reported that part of the data is missing.",
        "Check the store of Prometheus (Thanos, Mimir).",
    ),
    "Failed": ("The forecaster failed.", "Read its log and its message."),
    "Unreachable": (
        "The forecaster, or the shard that owns the series, does not respond.",
        "Check the pods of the forecaster.",
    ),
}

_DECISIONS: Final[Meanings] = {
    "WithinTarget": ("The current count fits the load.", ""),
    "RealTimeDemand": ("The current load needs this count.", ""),
    "ForecastDemand": ("The forecast peak over the lead time needs this count.", ""),
    "LatencyObjective": ("A latency metric is above its target, or has just met it.", ""),
    "ExternalMetric": ("The value of an External metric needs this count.", ""),
    "QueueBacklog": ("Queued requests need more replicas to start in time.", ""),
    "ScalingFromZero": ("A request is queued, and no replica runs.", ""),
    "Idle": ("No request came for the scale-down window, so the count is zero.", ""),
    "ScaleToZeroCooldown": ("The load is zero, and the scale-down window has not passed.", ""),
    "Stabilized": (
        "A change waits for its stabilization window.",
        "To scale down sooner, shorten scaleDown.stabilizationWindowSeconds.",
    ),
    "RecentPeak": (
        "Demand filled this count in the last three lead times. It may return before a replica starts.",
        "To scale down sooner, shorten the start-up time of a replica.",
    ),
    "AtMinReplicas": ("The load needs fewer replicas than minReplicas.", "Lower minReplicas."),
    "Manual": ("spec.replicas sets the count.", ""),
}

REASONS: Final[dict[str, Meanings]] = {
    "Ready and Available": _SUMMARY,
    "Progressing": _PROGRESS,
    "Degraded (and Ready=False)": _PROBLEMS,
    "ModelNameConflict": _NAMES,
    "ScalingActive and ScalingLimited": _SCALING,
    "ForecastUnavailable": _FORECAST,
    "ForecastNotApproved": _FORECAST_APPROVAL,
    "Decisions (`r1 explain`), beside the reasons of ScalingLimited": _DECISIONS,
}
"""Grouped by condition; the last group is that of decisions."""


BACKTEST_CONDITIONS: Final[dict[BacktestCondition, str]] = {
    BacktestCondition.COMPLETE: "The backtest has run and has a verdict. `kubectl wait` uses this condition. "
    "While it is False, its reason gives the cause of the wait.",
    BacktestCondition.FAILED: "The backtest ended without a verdict.",
    BacktestCondition.BLOCKED: "The pod of the backtest cannot start. After 10 min the backtest fails, and the"
    " next one starts.",
    BacktestCondition.STALE: "The spec.autoscaling of the R1Inference has changed since the backtest.",
}

BACKTEST_REASONS: Final[dict[BacktestReason, tuple[str, str]]] = {
    BacktestReason.QUEUED: (
        "Another backtest is running; one runs at a time.",
        "Wait.",
    ),
    BacktestReason.INFERENCE_NOT_FOUND: (
        "The namespace has no R1Inference of this name.",
        "Create it, or delete this R1Backtest.",
    ),
    BacktestReason.NO_AUTOSCALING: (
        "The R1Inference has no spec.autoscaling, so there is no policy to test.",
        "Set it, or delete this R1Backtest.",
    ),
    BacktestReason.NO_PROMETHEUS: (
        "The operator has no Prometheus URL.",
        "Set the chart value prometheus.url.",
    ),
    BacktestReason.NO_IMAGE: (
        "The operator has no image for the Job.",
        "Set the chart value backtest.image.",
    ),
    BacktestReason.JOB_REJECTED: (
        "The API server rejected the Job.",
        "Read the message: a quota, an admission policy, or the chart values under backtest.",
    ),
    BacktestReason.JOB_NOT_CREATED: (
        "The Job could not be created: the API server or a webhook failed.",
        "Wait: the operator retries. Read the message if the reason stays.",
    ),
    BacktestReason.JOB_NOT_READ: (
        "The Job could not be read, so its state is unknown.",
        "Wait: the operator retries. Read the message if the reason stays.",
    ),
    BacktestReason.JOB_BUILD_FAILED: (
        "The operator cannot build the Job.",
        "Correct the chart values under backtest as the message says.",
    ),
    BacktestReason.INVALID_SPEC: (
        "The spec is invalid: the object is older than a stricter CRD.",
        "Create a new R1Backtest.",
    ),
    BacktestReason.RUNNING: (
        "The Job of the backtest is running.",
        "Wait. The log of its pod shows the progress.",
    ),
    BacktestReason.UNSCHEDULABLE: (
        "The scheduler finds no node for the pod.",
        "Add capacity, or lower the chart value backtest.resources. Check backtest.nodeSelector.",
    ),
    BacktestReason.IMAGE_PULL_FAILED: (
        "The image cannot be pulled.",
        "Correct the chart value backtest.image, or the pull secret.",
    ),
    BacktestReason.CONTAINER_START_FAILED: (
        "The container cannot be started.",
        "Read the message: most often the chart values under backtest are the cause.",
    ),
    BacktestReason.POD_NOT_CREATED: (
        "The Job has no pod.",
        "Read the Events of the Job: a quota or a policy of the operator's namespace.",
    ),
    BacktestReason.POD_NOT_STARTED: (
        "The pod is on a node and does not start.",
        "Read the Events of the pod.",
    ),
    BacktestReason.BACKTEST_COMPLETED: (
        "The backtest has run and has a verdict.",
        "",
    ),
    BacktestReason.TOO_LITTLE_HISTORY: (
        "Prometheus has no load of this resource, or too little.",
        "Wait for more history, or check that Prometheus scrapes the gateways.",
    ),
    BacktestReason.RUN_FAILED: (
        "The backtest ended with an error.",
        "Read the message and the log of the pod.",
    ),
    BacktestReason.KILLED: (
        "The process was killed, most often because of its memory limit.",
        "Raise the chart value backtest.resources.",
    ),
    BacktestReason.DEADLINE_EXCEEDED: (
        "The backtest did not finish within 1 h.",
        "Lower the number of policies or sinceSeconds, or raise the CPU in backtest.resources.",
    ),
    BacktestReason.JOB_LOST: (
        "The Job was deleted before it finished.",
        "Create a new R1Backtest.",
    ),
    BacktestReason.NO_RESULT: (
        "The Job succeeded, but its result cannot be read.",
        "Use an image and an operator of the same version.",
    ),
    BacktestReason.AUTOSCALING_CHANGED: (
        "The current spec.autoscaling differs from the tested one.",
        "Create a new R1Backtest.",
    ),
}

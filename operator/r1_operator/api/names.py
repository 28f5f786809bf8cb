"""Public names of the API: labels, annotations, conditions, reasons.

Users select by the labels, alert on the reasons and script against the condition types.
After a release, names are added and never renamed. A test compares the reference page
`docs/reference/conditions.md` with these enums.
"""

from enum import StrEnum
from typing import Final

GROUP: Final = "deepseek.ai"
VERSION: Final = "v1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "R1Inference"
PLURAL: Final = "r1inferences"
SINGULAR: Final = "r1inference"
SHORT_NAME: Final = "r1"
BACKTEST_KIND: Final = "R1Backtest"
BACKTEST_PLURAL: Final = "r1backtests"
BACKTEST_SINGULAR: Final = "r1backtest"
BACKTEST_SHORT_NAME: Final = "r1bt"
FIELD_MANAGER: Final = "r1-operator"

NAME: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
LONGEST_NAME: Final = 63
"""The length limit of a DNS label: a Service and labels use the names of the resources."""

POD_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""Annotation of Kubernetes: the ReplicaSet controller deletes the pod with the lowest cost first."""

CONTAINER: Final = "engine"
PORT_NAME: Final = "http"
PORT: Final = 8000
ROUTE_KEY: Final = "route.json"


class Label(StrEnum):
    """Labels on children and pods."""

    NAME = "app.kubernetes.io/name"
    INSTANCE = "app.kubernetes.io/instance"
    MANAGED_BY = "app.kubernetes.io/managed-by"
    RESOURCE = "deepseek.ai/r1inference"
    ROUTE = "deepseek.ai/route"
    BACKTEST = "deepseek.ai/r1backtest"
    BACKTEST_NAMESPACE = "deepseek.ai/r1backtest-namespace"


class Annotation(StrEnum):
    """Annotations that the operator writes on children or reads on the resource."""

    REVISION = "deepseek.ai/revision"
    REVISION_VERSION = "deepseek.ai/revision-version"
    RENDERER = "deepseek.ai/renderer"
    RUNTIME_IMAGE = "deepseek.ai/runtime-image"
    REFRESH = "deepseek.ai/refresh"
    BACKTEST_TARGET = "deepseek.ai/backtest-target"
    AUTOSCALING_HASH = "deepseek.ai/autoscaling-hash"
    START_SECONDS = "deepseek.ai/start-seconds"


class ConditionType(StrEnum):
    """Condition types. The first four are always present, the others only while True."""

    READY = "Ready"
    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    SCALING_ACTIVE = "ScalingActive"
    DEGRADED = "Degraded"
    MODEL_NAME_CONFLICT = "ModelNameConflict"
    SCALING_LIMITED = "ScalingLimited"
    FORECAST_UNAVAILABLE = "ForecastUnavailable"
    FORECAST_NOT_APPROVED = "ForecastNotApproved"


ALWAYS: Final = (
    ConditionType.READY,
    ConditionType.AVAILABLE,
    ConditionType.PROGRESSING,
    ConditionType.SCALING_ACTIVE,
)


class ConditionReason(StrEnum):
    """Reasons of Ready, Available, Progressing, Degraded, ModelNameConflict and ScalingActive."""

    # Ready and Available
    ALL_REPLICAS_READY = "AllReplicasReady"
    SCALED_TO_ZERO = "ScaledToZero"
    SERVING = "Serving"
    NO_REPLICAS_READY = "NoReplicasReady"
    WAITING_FOR_REPLICAS = "WaitingForReplicas"
    # Progressing
    APPLYING = "Applying"
    STARTING = "Starting"
    ROLLING_OUT = "RollingOut"
    SCALING_UP = "ScalingUp"
    SCALING_DOWN = "ScalingDown"
    UP_TO_DATE = "UpToDate"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    # Degraded: each message ends with the action
    INVALID_SPEC = "InvalidSpec"
    MODEL_SOURCE_UNUSABLE = "ModelSourceUnusable"
    TOO_MANY_ACCELERATORS = "TooManyAccelerators"
    CHILD_NOT_OWNED = "ChildNotOwned"
    CHILD_REJECTED = "ChildRejected"
    CHILD_NOT_APPLIED = "ChildNotApplied"
    MANIFEST_BUILD_FAILED = "ManifestBuildFailed"
    MISSING_SECRET = "MissingSecret"  # noqa: S105 - a reason, not a password
    MISSING_CONFIG_MAP = "MissingConfigMap"
    MISSING_VOLUME_CLAIM = "MissingVolumeClaim"
    VOLUME_CLAIM_UNBOUND = "VolumeClaimUnbound"
    VOLUME_NOT_MOUNTED = "VolumeNotMounted"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_START_FAILED = "ContainerStartFailed"
    ENGINE_ARGUMENTS_REJECTED = "EngineArgumentsRejected"
    MODEL_LOAD_FAILED = "ModelLoadFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASH_LOOPING = "CrashLooping"
    PODS_FAILED = "PodsFailed"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_REJECTED = "PodRejected"
    # ModelNameConflict
    NAME_TAKEN = "NameTaken"
    ALIAS_TAKEN = "AliasTaken"
    # ScalingActive, in addition to the reasons of scaling decisions
    METRICS_AVAILABLE = "MetricsAvailable"
    AUTOSCALING_OFF = "AutoscalingOff"
    DECISION_PENDING = "DecisionPending"


class ForecastApprovalReason(StrEnum):
    """Approval of the forecast by the named R1Backtest; only the first lets the forecast act."""

    BACKTEST_PASSED = "BacktestPassed"
    BACKTEST_MISSING = "BacktestMissing"
    BACKTEST_TARGET_MISMATCH = "BacktestTargetMismatch"
    BACKTEST_RUNNING = "BacktestRunning"
    BACKTEST_FAILED = "BacktestFailed"
    BACKTEST_STALE = "BacktestStale"
    BACKTEST_REJECTED = "BacktestRejected"
    BACKTEST_NOT_READ = "BacktestNotRead"


class ScalingMode(StrEnum):
    """The source of the replica count."""

    MANUAL = "Manual"
    REACTIVE = "Reactive"
    PREDICTIVE = "Predictive"


class BacktestPhase(StrEnum):
    """Phase of an R1Backtest; the last two are final."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class BacktestCondition(StrEnum):
    """Condition types of an R1Backtest. Complete is always present, the others only while True."""

    COMPLETE = "Complete"
    FAILED = "Failed"
    BLOCKED = "Blocked"
    STALE = "Stale"


class BacktestReason(StrEnum):
    """Reasons of Complete, Failed, Blocked and Stale."""

    QUEUED = "Queued"
    INFERENCE_NOT_FOUND = "InferenceNotFound"
    NO_AUTOSCALING = "NoAutoscaling"
    NO_PROMETHEUS = "NoPrometheus"
    NO_IMAGE = "NoImage"
    INVALID_SPEC = "InvalidSpec"
    JOB_REJECTED = "JobRejected"
    JOB_NOT_CREATED = "JobNotCreated"
    JOB_NOT_READ = "JobNotRead"
    JOB_BUILD_FAILED = "JobBuildFailed"
    RUNNING = "Running"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_START_FAILED = "ContainerStartFailed"
    POD_NOT_CREATED = "PodNotCreated"
    POD_NOT_STARTED = "PodNotStarted"
    BACKTEST_COMPLETED = "BacktestCompleted"
    TOO_LITTLE_HISTORY = "TooLittleHistory"
    RUN_FAILED = "RunFailed"
    KILLED = "Killed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    JOB_LOST = "JobLost"
    NO_RESULT = "NoResult"
    AUTOSCALING_CHANGED = "AutoscalingChanged"

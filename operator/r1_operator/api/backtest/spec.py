"""Types of the custom resource R1Backtest (`deepseek.ai/v1`): one backtest of a scaling policy.

An R1Backtest is like a Job: its spec is immutable, it runs once, and its result stays as a record of
the policy at that time. `parse_backtest` converts a JSON object into these types.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any

from r1_operator.api import names
from r1_operator.api.fields.declare import Doc, to_json
from r1_operator.api.fields.parsing import FieldError, Invalid, read
from r1_operator.api.scaling import Autoscaling
from r1_operator.api.v1 import LONGEST_NAME, NAME, read_metadata, unix_seconds

NAME_RULE = (
    f"the name must start with a lower-case letter, contain only a-z, 0-9 and '-', and have at most "
    f"{LONGEST_NAME} characters, because a label uses it"
)
IMMUTABLE_RULE = "spec is immutable: create a new R1Backtest instead"
_DAY = 86_400


class Policy(StrEnum):
    """Policies to compare with. `r1 leaderboard` has more."""

    OURS = "ours"
    HPA = "hpa"
    KEDA = "keda"
    KNATIVE = "knative"
    KUBEAI = "kubeai"
    DYNAMO = "dynamo"
    RAY_SERVE = "ray-serve"
    STATIC = "static"
    ORACLE = "oracle"


@dataclass(frozen=True, slots=True)
class BacktestSpec:
    """The desired backtest."""

    inference_name: Annotated[
        str,
        Doc(
            "is the name of the R1Inference, in the same namespace, whose policy is tested.",
            min_length=1,
            max_length=LONGEST_NAME,
            pattern=NAME,
        ),
    ]
    since_seconds: Annotated[
        int,
        Doc(
            "is the length of the recorded load that is read, in seconds. The last third is"
            " the test period.",
            minimum=4 * _DAY,
            maximum=90 * _DAY,
        ),
    ] = 14 * _DAY
    start_seconds: Annotated[
        int | None,
        Doc(
            "is the start-up time of a replica in seconds. When absent, the measured time "
            "is used, or 120 if none was measured.",
            minimum=1,
            maximum=_DAY,
        ),
    ] = None
    policies: Annotated[
        tuple[Policy, ...],
        Doc(
            "are the policies for comparison. The policies ours, ours-no-forecast and hpa "
            "are always included.",
            max_items=len(Policy),
            unique=True,
        ),
    ] = (Policy.STATIC, Policy.ORACLE)
    ttl_seconds_after_finished: Annotated[
        int | None,
        Doc(
            "is the time in seconds after which a finished object is deleted. When absent, "
            "the object stays.",
            minimum=0,
            maximum=366 * _DAY,
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class R1Backtest:
    """One stored object. Times are Unix seconds; `status` is the last stored status."""

    name: str
    namespace: str
    spec: BacktestSpec
    uid: str = ""
    generation: int = 0
    created_at: float = 0.0
    deleted_at: float | None = None
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


def parse_backtest(obj: Mapping[str, Any], *, strict: bool = False) -> R1Backtest:
    """Parse a manifest or an API object and fill in the defaults.

    `strict` rejects unknown fields, as kubectl does. Raises Invalid, whose message names every
    invalid field by its path.
    """
    errors: list[FieldError] = []
    metadata = read_metadata(obj, names.BACKTEST_KIND, NAME_RULE, errors)
    if "spec" not in obj:
        errors.append(FieldError("spec", "is required"))
    spec = read(BacktestSpec, obj.get("spec", {}), "spec", errors, strict=strict)
    if errors or spec is None:
        raise Invalid(errors)
    deleted = metadata.get("deletionTimestamp")
    return R1Backtest(
        name=str(metadata["name"]),
        namespace=metadata.get("namespace") or "default",
        spec=spec,
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        created_at=unix_seconds(metadata.get("creationTimestamp") or "1970-01-01T00:00:00Z"),
        deleted_at=unix_seconds(deleted) if deleted else None,
        status=obj.get("status") or {},
    )


def autoscaling_hash(autoscaling: Autoscaling | None) -> str:
    """Hash of a `spec.autoscaling` (32 hex digits), independent of spelling and version."""
    if autoscaling is not None:  # the name of the backtest is no part of the tested policy
        forecast = replace(autoscaling.forecast, backtest_name=None)
        autoscaling = replace(autoscaling, forecast=forecast)
    tested = None if autoscaling is None else to_json(autoscaling, defaults=False)
    text = json.dumps(tested, separators=(",", ":"), sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()

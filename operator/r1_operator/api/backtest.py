"""`deepseek.ai/v1` R1Backtest: one backtest of one R1Inference's policy, as an object.

Like a Job: the spec is immutable, it runs once, and what it found stays as evidence about the policy
as it was. `parse_backtest` is the one place where an object from outside becomes these types.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any

from r1_operator.api import names
from r1_operator.api.declare import Doc, to_json
from r1_operator.api.parsing import BadField, Invalid, read
from r1_operator.api.scaling import Autoscaling
from r1_operator.api.v1 import LONGEST_NAME, NAME, read_metadata, unix_seconds

NAME_RULE = (
    f"the name must start with a lower-case letter, hold only a-z, 0-9 and '-', and have at most "
    f"{LONGEST_NAME} characters: a label carries it"
)
IMMUTABLE_RULE = "spec is immutable: a new question is a new R1Backtest"
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
    """What is asked."""

    inference_name: Annotated[
        str,
        Doc(
            "is the R1Inference, in the same namespace, whose policy is tried.",
            min_length=1,
            max_length=LONGEST_NAME,
            pattern=NAME,
        ),
    ]
    since_seconds: Annotated[
        int,
        Doc(
            "is how far back its recorded load is read; the last third is the test.",
            minimum=4 * _DAY,
            maximum=90 * _DAY,
        ),
    ] = 14 * _DAY
    start_seconds: Annotated[
        int | None,
        Doc(
            "is what a replica takes to serve; absent means as measured, and 120 where nothing was.",
            minimum=1,
            maximum=_DAY,
        ),
    ] = None
    policies: Annotated[
        tuple[Policy, ...],
        Doc(
            "are what else it is compared with; ours, ours-no-forecast and hpa always are.",
            max_items=len(Policy),
            unique=True,
        ),
    ] = (Policy.STATIC, Policy.ORACLE)
    ttl_seconds_after_finished: Annotated[
        int | None,
        Doc(
            "is how long the object stays once it is finished; absent means until it is deleted.",
            minimum=0,
            maximum=366 * _DAY,
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class R1Backtest:
    """One object as found. Times are Unix seconds; `status` is the last one, as stored."""

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
    """Read a manifest or an API object; fills the defaults.

    `strict` refuses unknown fields, as kubectl does. Raises Invalid, whose message names every
    wrong field by its path.
    """
    errors: list[BadField] = []
    metadata = read_metadata(obj, names.BACKTEST_KIND, NAME_RULE, errors)
    if "spec" not in obj:
        errors.append(BadField("spec", "is required"))
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
    """32 hex digits that stand for a `spec.autoscaling`, whatever spelling or version it came in."""
    if autoscaling is not None:  # which evidence is named is no part of what was tried
        forecast = replace(autoscaling.forecast, backtest_name=None)
        autoscaling = replace(autoscaling, forecast=forecast)
    asked = None if autoscaling is None else to_json(autoscaling, defaults=False)
    text = json.dumps(asked, separators=(",", ":"), sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()

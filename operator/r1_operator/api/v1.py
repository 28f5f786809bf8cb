"""Types of the custom resource R1Inference (`deepseek.ai/v1`).

`parse` is the only validation: it converts a JSON object into these types. The
API server has usually checked the object before; `parse` covers files, tests and
older CRDs. The types of the spec are in `serving.py`, `scaling.py` and `budget.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar

from r1_common.contracts.priority_classes import ClassPolicy
from r1_operator.api import names
from r1_operator.api.budget import BUDGET_RULES
from r1_operator.api.class_policies import resolve_class_policies
from r1_operator.api.fields.declare import Doc, Rule
from r1_operator.api.fields.parsing import FieldError, Invalid, matches, read
from r1_operator.api.scaling import Autoscaling, Priority
from r1_operator.api.serving import (
    BUNDLED_RULE,
    EngineSpec,
    Model,
    PodTemplate,
    Resources,
    Rollout,
    Runtime,
)

NAME, LONGEST_NAME = names.NAME, names.LONGEST_NAME
NAME_RULE = (
    f"the name must start with a lower-case letter, contain only a-z, 0-9 and '-', and have at most "
    f"{LONGEST_NAME} characters, because a Service and a label use it"
)


@dataclass(frozen=True, slots=True)
class Spec:
    """The desired state of an R1Inference."""

    replicas: Annotated[
        int,
        Doc(
            "is the replica count when autoscaling is absent, and the initial count "
            "otherwise. kubectl scale sets this field.",
            minimum=0,
            maximum=10_000,
        ),
    ] = 1
    model: Annotated[Model, Doc("is the served model and its names.")] = field(
        default_factory=Model
    )
    engine: Annotated[EngineSpec, Doc("is the inference engine.")] = field(
        default_factory=EngineSpec
    )
    runtime: Annotated[
        Runtime, Doc("configures the engine: number format, context length, seats and KV cache.")
    ] = field(default_factory=Runtime)
    resources: Annotated[Resources, Doc("are the compute resources of one replica.")] = field(
        default_factory=Resources
    )
    priority: Annotated[Priority, Doc("configures how requests queue at the gateway.")] = field(
        default_factory=Priority
    )
    autoscaling: Annotated[
        Autoscaling | None,
        Doc("configures scaling by load. When absent, spec.replicas sets the count."),
    ] = None
    rollout: Annotated[Rollout, Doc("configures how replicas are replaced and stopped.")] = field(
        default_factory=Rollout
    )
    template: Annotated[PodTemplate, Doc("customizes the pods beyond the other fields.")] = field(
        default_factory=PodTemplate
    )

    RULES: ClassVar[tuple[Rule, ...]] = (*BUDGET_RULES, BUNDLED_RULE)


@dataclass(frozen=True, slots=True)
class R1Inference:
    """One stored resource. Times are Unix seconds; `status` is the last stored status.

    `class_policies`: the priority classes with every default filled in, resolved once from the spec.
    """

    name: str
    namespace: str
    spec: Spec
    uid: str = ""
    generation: int = 0
    created_at: float = 0.0
    deleted_at: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    class_policies: tuple[ClassPolicy, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # The only way to set a field of a frozen dataclass that follows from another field.
        object.__setattr__(self, "class_policies", resolve_class_policies(self.spec.priority))

    @property
    def key(self) -> str:
        """`namespace/name`, the identifier at the gateway and the forecaster."""
        return f"{self.namespace}/{self.name}"


def unix_seconds(text: str) -> float:
    """Convert an RFC 3339 timestamp of the API to Unix seconds."""
    return datetime.fromisoformat(text).timestamp()


def read_metadata(
    obj: object, kind: str, name_rule: str, errors: list[FieldError]
) -> Mapping[str, Any]:
    """Return the metadata of an object of `kind`; add its errors to `errors`.

    Raises Invalid if there is no metadata.
    """
    if not isinstance(obj, Mapping):
        raise Invalid([FieldError("", "must be an object")])
    for key, wanted in (("apiVersion", names.API_VERSION), ("kind", kind)):
        if obj.get(key) != wanted:
            errors.append(FieldError(key, f"must be {wanted}, not {obj.get(key)!r}"))
    metadata = obj.get("metadata")
    if not isinstance(metadata, Mapping):
        raise Invalid([*errors, FieldError("metadata", "is required")])
    name = metadata.get("name")
    if not isinstance(name, str) or len(name) > LONGEST_NAME or not matches(NAME, name):
        errors.append(FieldError("metadata.name", name_rule))
    return metadata


def parse(obj: Mapping[str, Any], *, strict: bool = False) -> R1Inference:
    """Parse a manifest or an API object and fill in the defaults.

    `strict` rejects unknown fields, as kubectl does. Otherwise they are ignored, because a newer
    CRD may add fields. Raises Invalid, whose message names every invalid field by its path.
    """
    errors: list[FieldError] = []
    metadata = read_metadata(obj, names.KIND, NAME_RULE, errors)
    if "spec" not in obj:
        errors.append(FieldError("spec", "is required; the empty object {} takes every default"))
    spec = read(Spec, obj.get("spec", {}), "spec", errors, strict=strict)
    if errors or spec is None:
        raise Invalid(errors)
    deleted = metadata.get("deletionTimestamp")
    return R1Inference(
        name=str(metadata["name"]),
        namespace=metadata.get("namespace") or "default",
        spec=spec,
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        created_at=unix_seconds(metadata.get("creationTimestamp") or "1970-01-01T00:00:00Z"),
        deleted_at=unix_seconds(deleted) if deleted else None,
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        status=obj.get("status") or {},
    )

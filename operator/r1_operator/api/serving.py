"""The parts of the spec that shape a replica: model, engine, runtime, resources, rollout."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from r1_operator.api.declare import Doc, Rule
from r1_operator.api.quantity import Quantity

DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$"

OWNED_FLAGS = ("--port", "--model-path", "--model", "--served-model-name")
OWNED_LABELS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
)


class EngineType(StrEnum):
    BUNDLED = "Bundled"
    VLLM = "vLLM"
    SGLANG = "SGLang"


class Dtype(StrEnum):
    AUTO = "Auto"
    FLOAT32 = "Float32"
    BFLOAT16 = "BFloat16"


@dataclass(frozen=True, slots=True)
class VolumeClaim:
    """A claim in the resource's namespace that holds the weights."""

    claim_name: Annotated[
        str,
        Doc(
            "is the name of a PersistentVolumeClaim in the same namespace; it is mounted "
            "read-only at /models.",
            min_length=1,
            max_length=253,
            pattern=DNS_SUBDOMAIN,
        ),
    ]
    sub_path: Annotated[
        str | None,
        Doc(
            "is the folder inside the volume that holds the model; the volume's root when absent.",
            min_length=1,
            max_length=512,
        ),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.subPath) || (!self.subPath.startsWith('/') "
            "&& !self.subPath.split('/').exists(p, p == '..'))",
            "subPath must be relative and must not contain '..'",
            lambda self: (
                self.sub_path is None
                or (not self.sub_path.startswith("/") and ".." not in self.sub_path.split("/"))
            ),
            "subPath",
        ),
    )


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where the weights come from: exactly one of three."""

    bundled: Annotated[
        str | None,
        Doc(
            "names a model that ships with the bundled runtime, such as demo.",
            min_length=1,
            max_length=63,
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        ),
    ] = None
    path: Annotated[
        str | None,
        Doc(
            "is a folder inside the container; the image or a volume of the template brings it.",
            min_length=1,
            max_length=1024,
            pattern=r"^/",
        ),
    ] = None
    persistent_volume_claim: Annotated[
        VolumeClaim | None, Doc("mounts a claim read-only at /models and loads from there.")
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.bundled), has(self.path), has(self.persistentVolumeClaim)]"
            ".filter(x, x).size() == 1",
            "exactly one of bundled, path and persistentVolumeClaim must be set",
            lambda self: [self.bundled, self.path, self.persistent_volume_claim].count(None) == 2,
        ),
    )


@dataclass(frozen=True, slots=True)
class Model:
    aliases: Annotated[
        tuple[str, ...],
        Doc(
            "are further model names that clients may ask for; the resource's own name always "
            "works.",
            max_items=16,
            unique=True,
            item_min_length=1,
            item_max_length=253,
            item_pattern=MODEL_NAME,
        ),
    ] = ()
    source: Annotated[
        ModelSource | None,
        Doc("says where the weights are; the operator's default model when absent."),
    ] = None


@dataclass(frozen=True, slots=True)
class EngineSpec:
    type: Annotated[EngineType, Doc("is the inference engine.")] = EngineType.BUNDLED
    image: Annotated[
        str | None,
        Doc(
            "is the engine's container image. Required unless type is Bundled, which otherwise "
            "takes the operator's default.",
            min_length=1,
            max_length=512,
            pattern=r"^[^\s]+$",
        ),
    ] = None
    args: Annotated[
        tuple[str, ...],
        Doc(
            "are appended to the engine's command line. A --host among them replaces the "
            "operator's: the pod's address for vLLM and SGLang, every address for Bundled.",
            max_items=64,
            item_max_length=1024,
        ),
    ] = ()

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.type == 'Bundled' || has(self.image)",
            "image is required when type is vLLM or SGLang",
            lambda self: self.type is EngineType.BUNDLED or self.image is not None,
            "image",
        ),
        Rule(
            "!has(self.args) || !self.args.exists(a, a.split('=', 2)[0] in ["
            + ", ".join(f"'{flag}'" for flag in OWNED_FLAGS)
            + "])",
            "args must not set " + ", ".join(OWNED_FLAGS) + ": the operator sets them",
            lambda self: not any(arg.split("=", 1)[0] in OWNED_FLAGS for arg in self.args),
            "args",
        ),
    )


@dataclass(frozen=True, slots=True)
class Runtime:
    dtype: Annotated[Dtype, Doc("is the number format of weights and activations.")] = Dtype.AUTO
    max_model_length: Annotated[
        int | None,
        Doc(
            "is the most tokens of prompt and answer together; what the model was trained for "
            "when absent.",
            minimum=1,
            maximum=16_777_216,
        ),
    ] = None
    max_concurrent_sequences: Annotated[
        int,
        Doc(
            "is the number of seats per replica: the engine's largest batch and the gateway's "
            "limit of requests in flight.",
            minimum=1,
            maximum=4096,
        ),
    ] = 8
    kv_cache_blocks: Annotated[
        int | None,
        Doc(
            "is the number of KV cache blocks of 16 tokens; the engine measures the free memory "
            "when absent.",
            minimum=1,
            maximum=100_000_000,
        ),
    ] = None


def _requests_fit(self: Any) -> bool:
    return all(
        name not in self.limits or request.value <= self.limits[name].value
        for name, request in self.requests.items()
    )


@dataclass(frozen=True, slots=True)
class Resources:
    """What a container asks for, copied into the pod word for word."""

    limits: Annotated[
        Mapping[str, Quantity],
        Doc(
            "are the most of each resource that a replica may use.",
            max_items=16,
            item_max_length=32,
        ),
    ] = field(default_factory=dict)
    requests: Annotated[
        Mapping[str, Quantity],
        Doc(
            "are what a node must have free to take a replica.",
            max_items=16,
            item_max_length=32,
        ),
    ] = field(default_factory=dict)

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.limits) || !has(self.requests) || self.requests.all(k, !(k in self.limits) "
            "|| !isQuantity(string(self.requests[k])) || !isQuantity(string(self.limits[k])) || "
            "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
            "each request must be at most its limit",
            _requests_fit,
            "requests",
        ),
    )


@dataclass(frozen=True, slots=True)
class Rollout:
    max_surge: Annotated[
        int,
        Doc("is how many replicas may exist above the count in a rollout.", minimum=0, maximum=100),
    ] = 1
    max_unavailable: Annotated[
        int,
        Doc("is how many replicas may be missing in a rollout.", minimum=0, maximum=100),
    ] = 0
    progress_deadline_seconds: Annotated[
        int,
        Doc(
            "is how long a replica may take to load and a rollout may stand still before it is "
            "called failed.",
            minimum=30,
            maximum=86_400,
        ),
    ] = 600
    drain_seconds: Annotated[
        int,
        Doc(
            "is how long a replica that was told to stop may take to finish its requests.",
            minimum=0,
            maximum=3600,
        ),
    ] = 120

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.maxSurge + self.maxUnavailable > 0",
            "maxSurge and maxUnavailable must not both be 0: a rollout could never move",
            lambda self: self.max_surge + self.max_unavailable > 0,
            "maxUnavailable",
        ),
    )


def _owned(key: str) -> bool:
    return key.startswith("deepseek.ai/") or key in OWNED_LABELS


@dataclass(frozen=True, slots=True)
class TemplateMetadata:
    labels: Annotated[
        Mapping[str, str],
        Doc("are added to the pods.", max_items=64, item_max_length=63),
    ] = field(default_factory=dict)
    annotations: Annotated[
        Mapping[str, str],
        Doc("are added to the pods.", max_items=64, item_max_length=4096),
    ] = field(default_factory=dict)

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.labels) || !self.labels.exists(k, k.startsWith('deepseek.ai/') || k in ["
            + ", ".join(f"'{label}'" for label in OWNED_LABELS)
            + "])",
            "labels must not start with deepseek.ai/ nor be one of " + ", ".join(OWNED_LABELS),
            lambda self: not any(_owned(key) for key in self.labels),
            "labels",
        ),
    )


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """Merged over the operator's pod, lists by their keys."""

    metadata: Annotated[TemplateMetadata, Doc("is merged over the pods' metadata.")] = (
        TemplateMetadata()
    )
    spec: Annotated[
        Mapping[str, Any],
        Doc(
            "is a PodSpec, merged over the operator's: maps by key, containers, volumes and env "
            "by name, volumeMounts by mountPath, tolerations appended. A probe's or lifecycle "
            "handler, a volume's source or an env's value replaces one of another kind. The "
            "engine's container is named engine.",
            max_items=64,
        ),
    ] = field(default_factory=dict)

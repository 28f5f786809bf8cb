"""Spec types for one replica: model, engine, runtime, resources, rollout, pod template."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from r1_common.kube.quantity import Quantity
from r1_operator.api.fields.declare import Doc, Rule

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
    """A PersistentVolumeClaim in the namespace of the resource, with the weights."""

    claim_name: Annotated[
        str,
        Doc(
            "is the name of a PersistentVolumeClaim in the same namespace. It is mounted "
            "read-only at /models.",
            min_length=1,
            max_length=253,
            pattern=DNS_SUBDOMAIN,
        ),
    ]
    sub_path: Annotated[
        str | None,
        Doc(
            "is the folder or GGUF file inside the volume that holds the model. When absent,"
            " the root of the volume is used.",
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
    """The location of the weights: exactly one of three sources."""

    bundled: Annotated[
        str | None,
        Doc(
            "is the name of a model that ships with the bundled runtime: demo or smollm2.",
            min_length=1,
            max_length=63,
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        ),
    ] = None
    path: Annotated[
        str | None,
        Doc(
            "is a folder or a GGUF file inside the container. The image or a volume of the"
            " template has to provide it.",
            min_length=1,
            max_length=1024,
            pattern=r"^/",
        ),
    ] = None
    persistent_volume_claim: Annotated[
        VolumeClaim | None,
        Doc("mounts a claim read-only at /models and loads the weights from there."),
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
            "are additional model names for clients. The name of the resource always works.",
            max_items=16,
            unique=True,
            item_min_length=1,
            item_max_length=253,
            item_pattern=MODEL_NAME,
        ),
    ] = ()
    source: Annotated[
        ModelSource | None,
        Doc(
            "is the location of the weights. When absent, the default model of the operator"
            " is served."
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class EngineSpec:
    type: Annotated[EngineType, Doc("is the inference engine: Bundled, vLLM or SGLang.")] = (
        EngineType.BUNDLED
    )
    image: Annotated[
        str | None,
        Doc(
            "is the container image of the engine. It is required for vLLM and SGLang. When"
            " absent, Bundled uses the default image of the operator.",
            min_length=1,
            max_length=512,
            pattern=r"^[^\s]+$",
        ),
    ] = None
    args: Annotated[
        tuple[str, ...],
        Doc(
            "are appended to the command line of the engine. A --host among them replaces "
            "the default: the pod address for vLLM and SGLang, every address for Bundled.",
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
            "args must not set " + ", ".join(OWNED_FLAGS) + ": the operator sets these flags",
            lambda self: not any(arg.split("=", 1)[0] in OWNED_FLAGS for arg in self.args),
            "args",
        ),
    )


class WeightFormat(StrEnum):
    STORED = "Stored"
    INT8 = "Int8"
    INT4 = "Int4"


class CacheDtype(StrEnum):
    AUTO = "Auto"
    FLOAT32 = "Float32"
    FLOAT16 = "Float16"
    BFLOAT16 = "BFloat16"


class PrefixCaching(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class SpeculationType(StrEnum):
    NONE = "None"
    NGRAM = "NGram"
    MTP = "MTP"


@dataclass(frozen=True, slots=True)
class Quantization:
    """Number format of the weights, by the Bundled engine. `r1 tune` measures what each loses."""

    weights: Annotated[
        WeightFormat,
        Doc(
            "is the format that all matrices but the routers are packed in while they load. "
            "Stored keeps the precision of the checkpoint."
        ),
    ] = WeightFormat.STORED


@dataclass(frozen=True, slots=True)
class Cache:
    """The key-value cache of the Bundled engine."""

    dtype: Annotated[
        CacheDtype,
        Doc(
            "is the number format of keys and values. Auto is Float16, or Float32 where the "
            "weights are Float32."
        ),
    ] = CacheDtype.AUTO
    prefix_caching: Annotated[
        PrefixCaching,
        Doc("is whether the common beginning of several prompts is computed once."),
    ] = PrefixCaching.ENABLED


@dataclass(frozen=True, slots=True)
class Speculation:
    """Draft tokens that one step of the Bundled engine verifies. Outputs stay the same."""

    type: Annotated[
        SpeculationType,
        Doc("is the source of drafts: the text so far, or a layer of the checkpoint."),
    ] = SpeculationType.NONE
    max_drafts: Annotated[
        int,
        Doc("is the number of draft tokens per request and step.", minimum=1, maximum=16),
    ] = 4


@dataclass(frozen=True, slots=True)
class Runtime:
    dtype: Annotated[Dtype, Doc("is the number format of weights and activations.")] = Dtype.AUTO
    max_model_length: Annotated[
        int | None,
        Doc(
            "is the largest number of tokens of prompt and answer together. When absent, "
            "the length that the model was trained for applies.",
            minimum=1,
            maximum=16_777_216,
        ),
    ] = None
    max_concurrent_sequences: Annotated[
        int,
        Doc(
            "is the number of seats per replica: the largest batch of the engine, and the "
            "limit of requests in flight at the gateway.",
            minimum=1,
            maximum=4096,
        ),
    ] = 8
    kv_cache_blocks: Annotated[
        int | None,
        Doc(
            "is the number of KV cache blocks of 16 tokens. When absent, the engine derives"
            " the number from the free memory.",
            minimum=1,
            maximum=100_000_000,
        ),
    ] = None
    quantization: Annotated[
        Quantization | None, Doc("packs the weights with fewer bits. Bundled only.")
    ] = None
    cache: Annotated[Cache | None, Doc("sets the key-value cache of the engine. Bundled only.")] = (
        None
    )
    speculation: Annotated[
        Speculation | None, Doc("lets one step verify several draft tokens. Bundled only.")
    ] = None


BUNDLED_ONLY = ("quantization", "cache", "speculation")
"""Fields of `spec.runtime` that only the Bundled engine has."""

BUNDLED_RULE = Rule(
    "!has(self.engine) || !has(self.engine.type) || self.engine.type == 'Bundled' || "
    "!has(self.runtime) || !("
    + " || ".join(f"has(self.runtime.{name})" for name in BUNDLED_ONLY)
    + ")",
    f"runtime must not set {', '.join(BUNDLED_ONLY)} unless engine.type is Bundled: use engine.args",
    lambda self: (
        self.engine.type is EngineType.BUNDLED
        or all(getattr(self.runtime, name) is None for name in BUNDLED_ONLY)
    ),
    "runtime",
)


def _requests_fit(self: Any) -> bool:
    return all(
        name not in self.limits or request.value <= self.limits[name].value
        for name, request in self.requests.items()
    )


@dataclass(frozen=True, slots=True)
class Resources:
    """Container resources, copied unchanged into the pod."""

    limits: Annotated[
        Mapping[str, Quantity],
        Doc(
            "are the resource limits of the engine container.",
            max_items=16,
            item_max_length=32,
        ),
    ] = field(default_factory=dict)
    requests: Annotated[
        Mapping[str, Quantity],
        Doc(
            "are the resource requests of the engine container, which the scheduler "
            "reserves on a node.",
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
        Doc(
            "is the number of replicas above the count that may exist during a rollout.",
            minimum=0,
            maximum=100,
        ),
    ] = 1
    max_unavailable: Annotated[
        int,
        Doc(
            "is the number of replicas that may be unavailable during a rollout.",
            minimum=0,
            maximum=100,
        ),
    ] = 0
    progress_deadline_seconds: Annotated[
        int,
        Doc(
            "is the start-up limit of a replica, and the time in seconds without progress "
            "after which a rollout counts as failed.",
            minimum=30,
            maximum=86_400,
        ),
    ] = 600
    drain_seconds: Annotated[
        int,
        Doc(
            "is the time in seconds that a stopping replica has to finish its requests.",
            minimum=0,
            maximum=3600,
        ),
    ] = 120

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.maxSurge + self.maxUnavailable > 0",
            "maxSurge and maxUnavailable must not both be 0: a rollout could not make progress",
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
        Doc("are added to the labels of the pods.", max_items=64, item_max_length=63),
    ] = field(default_factory=dict)
    annotations: Annotated[
        Mapping[str, str],
        Doc("are added to the annotations of the pods.", max_items=64, item_max_length=4096),
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
    """Merged over the pod of the operator; lists merge by their keys."""

    metadata: Annotated[TemplateMetadata, Doc("is merged into the metadata of the pods.")] = (
        TemplateMetadata()
    )
    spec: Annotated[
        Mapping[str, Any],
        Doc(
            "is a PodSpec that is merged into the PodSpec of the operator. Maps merge by "
            "key; containers, volumes and env by name; volumeMounts by mountPath; "
            "tolerations are appended. A probe handler, a lifecycle handler, a volume "
            "source or an env value replaces one of another kind. The engine container is "
            "named engine.",
            max_items=64,
        ),
    ] = field(default_factory=dict)

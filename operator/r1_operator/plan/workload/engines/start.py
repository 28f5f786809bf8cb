"""Inputs and result of an engine's start builder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r1_operator.api.serving import Dtype, Runtime

BLOCK_TOKENS = 16
"""Tokens in a KV cache block, in every engine."""

LEAVE_SECONDS = 3
"""Time between the removal from the endpoints and SIGTERM, in which the gateways observe it."""

POD_IP = "POD_IP"
"""The variable with the pod's first address, in pods of engines that listen on that alone."""

DTYPES = {Dtype.AUTO: "auto", Dtype.FLOAT32: "float32", Dtype.BFLOAT16: "bfloat16"}


@dataclass(frozen=True, slots=True)
class EngineStartInput:
    """Inputs of a command line. `model_path`: a path, or a name that the engine resolves."""

    model_path: str
    served_names: tuple[str, ...]
    port: int
    runtime: Runtime
    drain_seconds: int
    gpus: int
    """accelerators of the engine's container: the tensor parallel degree"""
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineStart:
    """A container's command, probe paths and drain handler."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = "/ready"
    health_path: str = "/health"
    pre_stop: Mapping[str, Any] = field(default_factory=dict)
    """the lifecycle handler that runs before SIGTERM"""
    pod_ip: bool = False
    """needs its address in `POD_IP`"""
    shared_memory: bool = False
    """needs a large /dev/shm (engines with several processes)"""


def host(request: EngineStartInput) -> str | None:
    """The value of `--host`: the pod's address, or None where the owner's args have one.

    No wildcard listens everywhere: SGLang's `::` refuses IPv4, `0.0.0.0` refuses IPv6, and vLLM's
    `::` ends where the kernel has no IPv6. Probes, gateways and Prometheus use the pod's address.
    """
    given = any(arg.split("=", 1)[0] == "--host" for arg in request.args)
    return None if given else f"$({POD_IP})"


def flags(*pairs: tuple[str, object | None]) -> tuple[str, ...]:
    """`--name value` for each pair whose value is not None."""
    return tuple(word for name, value in pairs if value is not None for word in (name, str(value)))

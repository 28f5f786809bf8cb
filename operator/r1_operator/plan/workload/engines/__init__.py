"""Start of each engine: pure builders, one file per engine."""

from collections.abc import Callable

from r1_operator.api.serving import EngineType
from r1_operator.plan.workload.engines.bundled import start_bundled
from r1_operator.plan.workload.engines.sglang import start_sglang
from r1_operator.plan.workload.engines.start import EngineStart, EngineStartInput
from r1_operator.plan.workload.engines.vllm import start_vllm

STARTS: dict[EngineType, Callable[[EngineStartInput], EngineStart]] = {
    EngineType.BUNDLED: start_bundled,
    EngineType.VLLM: start_vllm,
    EngineType.SGLANG: start_sglang,
}

__all__ = ["STARTS", "EngineStart", "EngineStartInput"]

"""The runtime of this project, which drains on SIGTERM."""

from collections.abc import Iterator

from r1_operator.api.serving import PrefixCaching, Runtime, SpeculationType, WeightFormat
from r1_operator.plan.workload.engines.start import (
    DTYPES,
    LEAVE_SECONDS,
    EngineStart,
    EngineStartInput,
    flags,
)


def start_bundled(request: EngineStartInput) -> EngineStart:
    """`python3 -m r1_runtime.serve`."""
    runtime = request.runtime
    several = request.gpus > 1
    return EngineStart(
        command=(
            *("python3", "-m", "r1_runtime.serve"),
            *flags(
                ("--model-path", request.model_path),
                *(("--served-model-name", name) for name in request.served_names),
                ("--port", request.port),
                ("--dtype", DTYPES[runtime.dtype]),
                ("--max-num-seqs", runtime.max_concurrent_sequences),
                ("--max-model-len", runtime.max_model_length),
                ("--num-blocks", runtime.kv_cache_blocks),
                ("--drain-seconds", request.drain_seconds),
                ("--tensor-parallel-size", request.gpus if several else None),
                # Without a usable GPU, the start fails instead of a CPU that computes alone.
                ("--device", "cuda" if several else None),
            ),
            *_technique_flags(runtime),
            *request.args,
        ),
        pre_stop={"sleep": {"seconds": LEAVE_SECONDS}},
        shared_memory=several,
    )


def _technique_flags(runtime: Runtime) -> Iterator[str]:
    """Options of weights, cache and drafts; none for what the resource does not set."""
    quantization, cache, speculation = runtime.quantization, runtime.cache, runtime.speculation
    if quantization is not None and quantization.weights is not WeightFormat.STORED:
        yield from ("--quantization", quantization.weights.value.lower())
    if cache is not None:
        yield from ("--kv-cache-dtype", cache.dtype.value.lower())
        if cache.prefix_caching is PrefixCaching.DISABLED:
            yield "--no-prefix-caching"
    if speculation is not None and speculation.type is not SpeculationType.NONE:
        yield from ("--speculation", speculation.type.value.lower())
        yield from ("--max-drafts", str(speculation.max_drafts))

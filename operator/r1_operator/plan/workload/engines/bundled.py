"""The runtime of this project, which drains on SIGTERM."""

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
            *request.args,
        ),
        pre_stop={"sleep": {"seconds": LEAVE_SECONDS}},
        shared_memory=several,
    )

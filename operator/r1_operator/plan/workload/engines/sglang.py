"""SGLang's server, in its own image. It accepts any model name, so aliases need no flag."""

from r1_operator.plan.workload.engines.draining import wait_until_idle
from r1_operator.plan.workload.engines.start import (
    BLOCK_TOKENS,
    DTYPES,
    EngineStart,
    EngineStartInput,
    flags,
    host,
)


def start_sglang(request: EngineStartInput) -> EngineStart:
    """`python3 -m sglang.launch_server`; one replica uses all its GPUs."""
    runtime = request.runtime
    blocks = runtime.kv_cache_blocks
    return EngineStart(
        command=(
            *("python3", "-m", "sglang.launch_server"),
            *flags(
                ("--model-path", request.model_path),
                ("--served-model-name", request.served_names[0]),
                ("--host", host(request)),
                ("--port", request.port),
                ("--dtype", DTYPES[runtime.dtype]),
                ("--max-running-requests", runtime.max_concurrent_sequences),
                ("--context-length", runtime.max_model_length),
                ("--max-total-tokens", None if blocks is None else blocks * BLOCK_TOKENS),
                ("--page-size", None if blocks is None else BLOCK_TOKENS),
                ("--tp-size", request.gpus if request.gpus > 1 else None),
            ),
            "--enable-metrics",
            *request.args,
        ),
        env={
            "HF_HOME": "/tmp/huggingface",  # noqa: S108 - the pod's own emptyDir
            "TORCHINDUCTOR_CACHE_DIR": "/tmp/inductor",  # noqa: S108
            "TRITON_CACHE_DIR": "/tmp/triton",  # noqa: S108
        },
        pod_ip=True,
        ready_path="/health",
        pre_stop=wait_until_idle(("sglang:num_running_reqs", "sglang:num_queue_reqs"), request),
        shared_memory=True,
    )

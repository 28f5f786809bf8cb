"""vLLM's OpenAI server, in its own image (flags and metric names of vLLM 0.8 and later)."""

from r1_operator.plan.workload.engines.draining import wait_until_idle
from r1_operator.plan.workload.engines.start import (
    BLOCK_TOKENS,
    DTYPES,
    EngineStart,
    EngineStartInput,
    flags,
    host,
)


def start_vllm(request: EngineStartInput) -> EngineStart:
    """`python3 -m vllm.entrypoints.openai.api_server`; one replica uses all its GPUs."""
    runtime = request.runtime
    blocks = runtime.kv_cache_blocks
    return EngineStart(
        command=(
            *("python3", "-m", "vllm.entrypoints.openai.api_server"),
            *flags(("--model", request.model_path)),
            *("--served-model-name", *request.served_names),
            *flags(
                ("--host", host(request)),
                ("--port", request.port),
                ("--dtype", DTYPES[runtime.dtype]),
                ("--max-num-seqs", runtime.max_concurrent_sequences),
                ("--max-model-len", runtime.max_model_length),
                ("--num-gpu-blocks-override", blocks),
                ("--block-size", BLOCK_TOKENS if blocks is not None else None),
                ("--tensor-parallel-size", request.gpus if request.gpus > 1 else None),
            ),
            *request.args,
        ),
        env={
            "HF_HOME": "/tmp/huggingface",  # noqa: S108 - the pod's own emptyDir
            "VLLM_CACHE_ROOT": "/tmp/vllm",  # noqa: S108
            "TORCHINDUCTOR_CACHE_DIR": "/tmp/inductor",  # noqa: S108
            "TRITON_CACHE_DIR": "/tmp/triton",  # noqa: S108
        },
        pod_ip=True,
        ready_path="/health",
        pre_stop=wait_until_idle(
            ("vllm:num_requests_running", "vllm:num_requests_waiting"), request
        ),
        shared_memory=True,
    )

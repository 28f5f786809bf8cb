"""Load generators of vLLM and of guidellm get every token that they ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client_programs import run_client
from runtime_process import Server

# The command `vllm bench serve` without the command line's other parts, which import the engine.
BENCH_SERVE = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main

parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


@pytest.mark.parametrize(
    ("backend", "endpoint"),
    [("openai", "/v1/completions"), ("openai-chat", "/v1/chat/completions")],
)
@pytest.mark.timeout(1000)
def test_vllm_bench_serve_completes_every_request(
    server: Server, model: Path, tmp_path: Path, backend: str, endpoint: str
) -> None:
    script = tmp_path / "bench_serve.py"
    script.write_text(BENCH_SERVE)
    command: list[str | Path] = [
        script,
        "--backend",
        backend,
        "--base-url",
        server.url,
        "--endpoint",
        endpoint,
    ]
    command += ["--model", "tiny", "--tokenizer", model, "--dataset-name", "random"]
    command += ["--random-input-len", "20", "--random-output-len", "16", "--num-prompts", "8"]
    command += ["--max-concurrency", "4", "--ignore-eos"]
    command += ["--save-result", "--result-filename", tmp_path / "result.json"]
    run_client(tmp_path, *command)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["completed"], result["failed"]) == (8, 0)
    assert result["total_output_tokens"] == 8 * 16
    assert result["mean_ttft_ms"] > 0
    assert result["mean_tpot_ms"] > 0


@pytest.mark.timeout(1000)
def test_guidellm_completes_every_request(server: Server, model: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = ["-m", "guidellm", "run"]
    command += ["--backend", f"kind=openai_http,target={server.url},model=tiny"]
    command += ["--profile", "kind=concurrent,streams=2"]
    command += ["--constraint", "kind=max_requests,count=8"]
    command += ["--tokenizer", f"kind=huggingface_auto,model={model}"]
    command += ["--data", "kind=synthetic_text,prompt_tokens=32,output_tokens=16"]
    command += ["--output", f"kind=json,path={report}"]
    run_client(tmp_path, *command)
    (benchmark,) = json.loads(report.read_text())["benchmarks"]
    requests = benchmark["requests"]
    assert len(requests["successful"]) >= 8
    assert requests["errored"] == []
    for request in requests["successful"]:
        assert request["output_tokens"] == 16

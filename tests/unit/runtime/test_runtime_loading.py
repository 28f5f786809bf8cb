"""Start of the engine: what is chosen is what serves, and `--explain-plan` computes nothing."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1_runtime.architecture.families import read_description
from r1_runtime.architecture.weight_names import weight_shapes
from r1_runtime.errors import OptionError
from r1_runtime.serve import main
from r1_runtime.server import loading
from r1_runtime.server.loading import LoadedModel, StartupTimes, explain_plan, load
from r1_runtime.server.options import parse_options


def options_for(model: Path, *arguments: str) -> list[str]:
    return ["--model-path", str(model), "--max-num-seqs", "2", *arguments]


def loaded(model: Path, *arguments: str) -> LoadedModel:
    options = parse_options(options_for(model, "--threads", "1", *arguments))
    result = load(options, lambda outputs, state: None, StartupTimes({}, time.perf_counter()))
    assert result.engine.stop(10)
    return result


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "cpu backend on cpu, 1 threads, 256 cache blocks of 16 tokens"),
        (("--block-size", "32"), "cpu backend on cpu, 1 threads, 128 cache blocks of 32 tokens"),
        (("--quantization", "int4", "--kv-cache-dtype", "bfloat16"), "cpu backend on cpu"),
        (("--backend", "reference"), "reference backend on cpu, 1 threads, 256 cache blocks"),
    ],
)
def test_model_is_loaded_by_the_chosen_backend(
    tiny_checkpoint: Path, arguments: tuple[str, ...], words: str
) -> None:
    model = loaded(tiny_checkpoint, *arguments)
    assert words in model.description
    assert model.limits.max_model_len == 2048


def test_shorter_sequences_are_a_limit_and_need_fewer_blocks(tiny_checkpoint: Path) -> None:
    model = loaded(tiny_checkpoint, "--max-model-len", "100")
    assert (model.limits.max_model_len, model.limits.block_count) == (100, 2 * 7)


def test_length_above_the_positions_of_the_model_is_refused_with_both_numbers(
    tiny_checkpoint: Path,
) -> None:
    for start in (loaded, lambda *given: explain_plan(parse_options(options_for(*given)))):
        with pytest.raises(
            OptionError, match=r"--max-model-len is 2049, but this model has 2048 .*at most 2048"
        ):
            start(tiny_checkpoint, "--max-model-len", "2049")


def test_gpu_that_torch_does_not_have_is_refused_before_anything_is_allocated(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BackendLoader", None)
    with pytest.raises(OptionError, match=r"--device cuda:63 is not available here.*--device cpu"):
        loaded(tiny_checkpoint, "--device", "cuda:63")


@pytest.mark.parametrize("option", [("--enable-sleep-mode",), ("--speculation", "mtp")])
def test_options_of_a_model_in_one_process_are_refused_for_several_ranks(
    tiny_checkpoint: Path, option: tuple[str, ...]
) -> None:
    divided = (*option, "--tensor-parallel-size", "2", "--device", "cpu")
    for start in (loaded, lambda *given: explain_plan(parse_options(options_for(*given)))):
        with pytest.raises(OptionError, match=f"{' '.join(option)} needs .* but 2 ranks compute"):
            start(tiny_checkpoint, *divided)


def test_explain_plan_prints_each_choice_and_ends_with_code_0(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options_for(tiny_checkpoint, "--explain-plan", "--threads", "3")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tiny_checkpoint.name}: deepseek_v3, 0.1 M parameters, 2 layers")
    assert lines[1:4] == [
        "The native CPU backend serves.",
        "Weights keep their stored precision: BF16 is packed as bfloat16.",
        "The cache stores float16.",
    ]
    assert lines[4].startswith("Weights need 0.3 MiB, a cache of 256 blocks 0.6 MiB, a step ")
    assert lines[5:] == ["Threads: 3 by --threads."]


def test_explain_plan_ends_with_code_2_where_the_options_exclude_each_other(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exclusive = ("--explain-plan", "--backend", "reference", "--quantization", "int8")
    assert main(options_for(tiny_checkpoint, *exclusive)) == 2
    assert "--quantization int8 needs the native CPU backend" in capsys.readouterr().err


LARGE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
}
PRINT_PEAK = (
    "import sys; from r1_runtime.serve import main; code = main(sys.argv[1:]);"
    "status = open('/proc/self/status').read();"
    "print(status.partition('VmHWM:')[2].split()[0], 'torch' in sys.modules);"
    "sys.exit(code)"
)


def test_explain_plan_reads_no_weights_and_imports_no_torch(tmp_path: Path) -> None:
    """The weights are a hole of 4 GB in a file: reading them would map their pages."""
    (tmp_path / "config.json").write_text(json.dumps(LARGE))
    header, end = {}, 0
    for name, shape in weight_shapes(read_description(tmp_path)).items():
        size = 4 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        published = name if name == "lm_head.weight" else f"model.{name}"
        offsets = [end, end + size]
        header[published] = {"dtype": "F32", "shape": list(shape), "data_offsets": offsets}
        end += size
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    assert end > 4e9
    command = [sys.executable, "-c", PRINT_PEAK, *options_for(tmp_path, "--explain-plan")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    *plan, peak = ended.stdout.splitlines()
    assert any(line.startswith("Weights need 3.9") or "Weights need 4." in line for line in plan)
    kilobytes, torch_imported = peak.split()
    assert int(kilobytes) < 400_000
    assert torch_imported == "False"

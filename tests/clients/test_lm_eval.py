"""lm-eval scores a text over HTTP as the same weights score it in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from client_programs import run_client
from numpy_forward import NumpyModel
from r1_runtime.checkpoint.open import open_checkpoint
from runtime_process import Server

TEXTS = [
    "A transaction bundles several steps into one operation that happens as a whole or not at all.",
    "If a pod is deleted, the controller creates a new one. Its name differs: naïve, 日本.",
    "SELECT name FROM cities WHERE altitude > 500 ORDER BY name;",
]
# lm-eval's own kind of task: bits per byte of whole documents.
TASK = """
task: texts
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
- metric: bits_per_byte
"""

# The command `lm-eval`, without the minute in which it reads its thousands of own tasks.
EVALUATE = """
import json, sys
from pathlib import Path
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

options, folder, result = sys.argv[1:]
tasks = TaskManager(include_path=folder, include_defaults=False)
evaluated = simple_evaluate(
    "local-completions", model_args=options, tasks=["texts"], task_manager=tasks, bootstrap_iters=0
)
Path(result).write_text(json.dumps(evaluated["results"]["texts"]))
"""


def bits_per_byte(model: Path) -> float:
    """Of all texts, each after the begin token, by an independent forward pass."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    begin = json.loads((model / "tokenizer_config.json").read_text())["bos_token"]
    network = NumpyModel(open_checkpoint(model))
    bits = 0.0
    for text in TEXTS:
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        first = tokenizer.token_to_id(begin)
        assert first is not None
        logits = network.logits([first, *tokens])[:-1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[np.arange(len(tokens)), tokens] - np.log(np.exp(logits).sum(axis=1))
        bits -= chosen.sum() / np.log(2)
    return bits / sum(len(text.encode()) for text in TEXTS)


@pytest.mark.timeout(1000)
def test_lm_eval_measures_the_same_bits_per_byte_over_http(
    server: Server, model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "texts.yaml").write_text(TASK.format(data=data))
    options = f"model=tiny,base_url={server.url}/v1/completions,tokenizer={model}"
    options += ",tokenizer_backend=huggingface,num_concurrent=2,max_length=1024"
    script, result = tmp_path / "evaluate.py", tmp_path / "result.json"
    script.write_text(EVALUATE)
    run_client(tmp_path, script, options, tmp_path, result)
    measured = json.loads(result.read_text())["bits_per_byte,none"]
    assert abs(measured - bits_per_byte(model)) < 1e-3

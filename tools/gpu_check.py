"""Check and measure the CUDA backend on this machine's GPU, in at most 8 minutes.

    make gpu-check

1. The kernel tests of `tests/unit/runtime/cuda_backend`, compiled for the GPU instead of interpreted.
2. Parity of tiny models of every family with `transformers`, where that package is installed.
3. Figures: decode of a random model of DeepSeek-V2-Lite's shape as a share of the bandwidth roofline,
   with and without CUDA graphs; grouped products of experts beside torch's dense product of the same
   size; bandwidth of latent attention; time of sampling.

Results go to out/gpu-check.json and out/gpu-check.md. Exit code: 0 when all tests pass, 1 when one
fails or a figure could not be taken, 3 without a GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from r1_runtime.architecture.description import (
    DenseFeedForward,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    ModelDescription,
    Rope,
    Scoring,
)
from r1_runtime.architecture.weight_names import weight_shapes
from r1_runtime.backends.sampling_plan import greedy_plan
from r1_runtime.backends.step_plan import StepPlan
from r1_runtime.checkpoint.source import Encoding, StoredTensor

ROOT = Path(__file__).resolve().parents[1]
NO_GPU = 3
_LIMIT_S = 480.0
_TESTS_LIMIT_S = 120.0
_BATCHES = (1, 8, 64)
_CONTEXT = 512  # tokens of each sequence of the measured decode steps


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the report.

    Attributes:
        name: what was measured or tested.
        value: the figure, with its unit in `unit`.
        note: what the figure is compared with.
    """

    name: str
    value: float
    unit: str
    note: str = ""


def v2_lite() -> ModelDescription:
    """The shape of DeepSeek-V2-Lite: 15.7 B parameters, 2.4 B active."""
    frequencies = tuple(10000.0 ** -(at / 64) for at in range(0, 64, 2))
    rope = Rope(64, interleaved=True, inverse_frequencies=frequencies)
    attention = LatentAttention(16, None, 512, 128, 128, rope, 192**-0.5)
    mixture = MixtureOfExperts(
        experts=64,
        experts_per_token=6,
        inner=1408,
        shared_inner=2816,
        scoring=Scoring.SOFTMAX,
        correction_bias=False,
        normalise=False,
        scale=1.0,
    )
    layers = (Layer(attention, DenseFeedForward(10944)), *(Layer(attention, mixture),) * 26)
    return ModelDescription(
        family="deepseek_v2",
        vocab_size=102400,
        hidden_size=2048,
        norm_eps=1e-6,
        layers=layers,
        tied_head=False,
        max_positions=4096,
        bos_token_id=None,
        eos_token_ids=(0,),
    )


class RandomCheckpoint:
    """Random bfloat16 weights: views of one buffer, so that a model of any size needs little memory."""

    def __init__(self, description: ModelDescription) -> None:
        self.description = description
        self._shapes = weight_shapes(description)
        most = max(int(np.prod(shape)) for shape in self._shapes.values())
        values = np.random.default_rng(0).standard_normal(most + 4096, np.float32) * 0.02
        self._matrix = (values.view(np.uint32) >> 16).astype(np.uint16)
        ones = np.ones(most, np.float32)
        self._norm = (ones.view(np.uint32) >> 16).astype(np.uint16)

    def names(self) -> frozenset[str]:
        return frozenset(self._shapes)

    def tensor(self, name: str) -> StoredTensor:
        shape = self._shapes[name]
        size = int(np.prod(shape))
        first = hash(name) % 4096
        values = self._norm[:size] if "norm" in name else self._matrix[first : first + size]
        return StoredTensor(name, shape, Encoding.BF16, values.view(np.uint8))

    def release(self, tensor: StoredTensor) -> None:
        """Nothing to release: the tensor is not mapped."""


def decode_plan(batch: int, context: int, block_size: int) -> StepPlan:
    """One row of each sequence at position `context - 1`; blocks in an order that is not ascending."""
    each = -(-context // block_size)
    blocks = np.random.default_rng(0).permutation(batch * each).astype(np.int32)
    rows = np.arange(batch, dtype=np.int32)
    return StepPlan(
        tokens=rows + 5,
        positions=np.full(batch, context - 1, np.int32),
        query_starts=np.arange(batch + 1, dtype=np.int32),
        context_lengths=np.full(batch, context, np.int32),
        block_starts=np.arange(batch + 1, dtype=np.int32) * each,
        blocks=blocks,
        output_rows=rows,
        sampling=greedy_plan(batch),
    )


def seconds(action: Callable[[], object], repeats: int = 20) -> float:
    """Median duration of an action on an idle GPU, its launch included."""
    for _ in range(3):
        action()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        action()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]


def run_tests() -> list[Row]:
    """The tests on the GPU, by pytest in processes of their own."""
    suites = {
        "kernel and step tests": ["tests/unit/runtime/cuda_backend"],
        "parity of every family": ["tests/unit/runtime/parity", "-k", "cuda"],
    }
    rows = []
    for name, arguments in suites.items():
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-rf",
            *arguments,
        ]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                check=False,
                capture_output=True,
                text=True,
                timeout=_TESTS_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            rows.append(Row(name, 1, "failed", f"no end within {_TESTS_LIMIT_S:.0f} s"))
            continue
        last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
        print(done.stdout[-3000:] if done.returncode else last, flush=True)
        rows.append(Row(name, float(done.returncode != 0), "failed", last))
    return rows


def bandwidth() -> float:
    """Bytes per second of a copy of 2 GiB, reads and writes together."""
    source = torch.empty(2**31, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source))


def measure_decode(bytes_per_second: float) -> list[Row]:
    """Decode of a V2-Lite-shaped model with and without graphs."""
    from r1_runtime.backends.cuda.backend import CudaBackend

    description = v2_lite()
    begin = time.perf_counter()
    backend = CudaBackend(
        RandomCheckpoint(description), blocks=2200, block_size=16, max_positions=4096
    )
    torch.cuda.synchronize()
    rows = [Row("load of a V2-Lite shape", time.perf_counter() - begin, "s")]
    graphs = backend.graphs
    for batch in _BATCHES:
        plan = decode_plan(batch, _CONTEXT, 16)
        backend.graphs = graphs
        with_graph = seconds(lambda plan=plan: backend.logits(plan))  # type: ignore[misc]
        replayed = backend.logits(plan).clone()
        backend.graphs = None
        without = seconds(lambda plan=plan: backend.logits(plan), 5)  # type: ignore[misc]
        apart = float((backend.logits(plan) - replayed).abs().max())
        read = decode_bytes(description, batch, _CONTEXT)
        share = read / bytes_per_second / with_graph
        name = f"decode, batch {batch}, context {_CONTEXT}"
        rows += [
            Row(name, 1000 * with_graph, "ms", f"{batch / with_graph:.0f} tokens/s"),
            Row(f"{name}, share of the roofline", share, "", f"{read / 1e9:.2f} GB per step"),
            Row(f"{name}, without a graph", 1000 * without, "ms"),
            Row(f"{name}, largest difference of logits", apart, "", "graph against eager"),
        ]
    return rows


def decode_bytes(description: ModelDescription, batch: int, context: int) -> float:
    """Bytes that a decode step must read at 2 bytes per value, for uniformly chosen experts."""
    total = description.vocab_size * description.hidden_size
    for layer in description.layers:
        only = replace(description, layers=(layer,), vocab_size=0)
        values = float(only.parameter_count())
        if isinstance(layer.feed_forward, MixtureOfExperts):
            mixture = layer.feed_forward
            routed = 3 * description.hidden_size * mixture.inner * mixture.experts
            missed = (1 - mixture.experts_per_token / mixture.experts) ** batch
            values -= routed * missed
        total += int(values)
    return 2.0 * (total + batch * context * description.cache_values_per_token())


def measure_grouped() -> list[Row]:
    """Grouped products of prefill beside torch's dense bfloat16 product with as many operations."""
    from r1_runtime.backends.cuda.kernels.grouped_matmul import (
        ExpertMatrices,
        Form,
        RowTiles,
        grouped_matmul,
        row_tiles,
        tile_rows,
    )
    from r1_runtime.backends.cuda.packing import pack_float8, pack_int4

    rows = []
    for name, experts, outputs, columns, total in (
        ("V2-Lite experts", 64, 2816, 2048, 24576),
        ("V3 experts (16 of 256)", 16, 4096, 7168, 16384),
    ):
        weights = torch.randn(experts, outputs, columns, device="cuda", dtype=torch.bfloat16)
        x = torch.randn(total, columns, device="cuda", dtype=torch.bfloat16)
        starts = torch.arange(experts + 1, device="cuda", dtype=torch.int32) * (total // experts)
        each = torch.arange(total, device="cuda", dtype=torch.int32)
        tiles = row_tiles(starts, total, tile_rows(total, experts))
        dense = seconds(lambda x=x, weights=weights: x @ weights[0].T)  # type: ignore[misc]
        work = 2 * total * outputs * columns
        rows.append(Row(f"{name}: torch bf16 matmul", work / dense / 1e12, "TFLOP/s"))
        for form in Form:
            matrices = {
                Form.DENSE: lambda w: ExpertMatrices(Form.DENSE, w, None, w.shape[2]),
                Form.FLOAT8: pack_float8,
                Form.INT4: pack_int4,
            }[form](weights)

            def multiply(
                x: torch.Tensor = x,
                matrices: ExpertMatrices = matrices,
                tiles: RowTiles = tiles,
                each: torch.Tensor = each,
            ) -> torch.Tensor:
                return grouped_matmul(x, matrices, tiles, each, each)

            taken = seconds(multiply, 5)
            label = f"{name}: grouped {form.name}"
            note = f"{dense / taken:.2f} x torch's bf16 matmul"
            rows.append(Row(label, work / taken / 1e12, "TFLOP/s", note))
    return rows


def measure_latent_attention(bytes_per_second: float) -> list[Row]:
    """Absorbed latent attention of decode: bytes of the cache per second."""
    from r1_runtime.backends.cuda.kernels.attention import (
        PagedKeys,
        Tables,
        Tiles,
        paged_attention,
        split_count,
        tile_shape,
    )
    from r1_runtime.backends.cuda.kernels.merge import merge_parts

    rows = []
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    for heads, batch, context in ((16, 64, 4096), (128, 64, 4096), (128, 1, 32768)):
        plan = decode_plan(batch, context, 16)
        positions, starts, contexts, block_starts, blocks = (
            torch.from_numpy(each).cuda()
            for each in (
                plan.positions,
                plan.query_starts,
                plan.context_lengths,
                plan.block_starts,
                plan.blocks,
            )
        )
        tables = Tables(positions, starts, contexts, block_starts, blocks, 16)
        cache = torch.randn(len(plan.blocks) * 16, 1, 576, device="cuda", dtype=torch.bfloat16)
        key = cache[..., :512]
        keys = PagedKeys(key, cache[..., 512:], key)
        query = torch.randn(batch, heads, 576, device="cuda", dtype=torch.bfloat16)
        shape = tile_shape(heads, 1, 576, 2, decode=True)
        sequences = tables.query_starts[:-1]
        tiles = Tiles(sequences, sequences, shape.rows)
        splits = split_count(batch * -(-heads // shape.heads), context, processors)

        def attend(
            query: torch.Tensor = query,
            keys: PagedKeys = keys,
            tables: Tables = tables,
            tiles: Tiles = tiles,
            splits: int = splits,
            heads: int = heads,
        ) -> torch.Tensor:
            shape = tile_shape(heads, 1, 576, 2, decode=True)
            parts, lse = paged_attention(
                query, keys, tables, tiles, 0.1, splits=splits, shape=shape
            )
            return merge_parts(parts, lse, query.dtype)

        taken = seconds(attend)
        rate = batch * context * 576 * 2 / taken
        rows.append(
            Row(
                f"latent attention, {heads} heads, batch {batch}, context {context}",
                rate / 1e12,
                "TB/s",
                f"{rate / bytes_per_second:.2f} of the copy's, {1e6 * taken:.0f} us",
            )
        )
    return rows


def measure_sampling() -> list[Row]:
    """Sampling of 8 rows of 129,280 tokens, with and without top-p."""
    from r1_runtime.backends.cuda.sampler import sample_on_device

    logits = torch.randn(8, 129280, device="cuda")
    drawn = replace(greedy_plan(8), temperatures=np.full(8, 0.8, np.float32))
    filtered = replace(drawn, top_p=np.full(8, 0.95, np.float32))
    return [
        Row(f"sampling of 8 x 129,280, {name}", 1000 * seconds(action), "ms", "bar: 2 ms")
        for name, action in (
            ("temperature", lambda: sample_on_device(logits, drawn)),
            ("top-p", lambda: sample_on_device(logits, filtered)),
        )
    ]


def table(rows: list[Row], device: str) -> str:
    lines = [
        f"# GPU check: {device}",
        "",
        f"torch {torch.__version__}, CUDA {torch.version.cuda}",
        "",
        "| what | value | unit | note |",
        "|---|---|---|---|",
        *(f"| {row.name} | {row.value:.3g} | {row.unit} | {row.note} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all parts, write the report, and return the exit code."""
    if not torch.cuda.is_available():
        print("gpu-check: this machine has no NVIDIA GPU; nothing was checked.", file=sys.stderr)
        return NO_GPU
    begin = time.perf_counter()
    device = torch.cuda.get_device_name(0)
    rows = run_tests()
    failed = any(row.unit == "failed" and row.value for row in rows)
    rate = bandwidth()
    rows.append(Row("copy within the GPU's memory", rate / 1e12, "TB/s"))
    parts: dict[str, Callable[[], list[Row]]] = {
        "latent attention": lambda: measure_latent_attention(rate),
        "grouped products": measure_grouped,
        "sampling": measure_sampling,
        "decode": lambda: measure_decode(rate),
    }
    for name, part in parts.items():
        if time.perf_counter() - begin > _LIMIT_S - 90:
            rows.append(Row(name, 1, "failed", "not run: the time limit is near"))
            failed = True
            continue
        try:
            rows += part()
        except Exception as error:  # noqa: BLE001 - the other figures are still worth taking
            rows.append(Row(name, 1, "failed", f"{type(error).__name__}: {error}"[:300]))
            failed = True
        torch.cuda.empty_cache()
        print(f"{name}: {time.perf_counter() - begin:.0f} s since the start", flush=True)
    out = ROOT / "out"
    out.mkdir(exist_ok=True)
    report = {"device": device, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
    (out / "gpu-check.json").write_text(json.dumps(report, indent=2) + "\n")
    text = table(rows, device)
    (out / "gpu-check.md").write_text(text)
    print(text)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

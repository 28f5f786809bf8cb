"""Memory estimate, available memory, and the message for too little memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memory_checkpoint import description, grouped
from r1_runtime.architecture.families import read_description
from r1_runtime.errors import OptionError
from r1_runtime.server.memory import Sizes, available_memory, choose_block_count, estimate_memory
from r1_runtime.server.options import resolve_model

DEMO = read_description(resolve_model("bundled:demo"))
WEIGHTS = 4 * DEMO.parameter_count()
SIZES = Sizes(
    max_num_seqs=8, max_model_len=2048, max_step_tokens=256, block_size=16, num_blocks=None
)
MIB = 2**20


def test_memory_estimate_follows_the_model_s_shape() -> None:
    need = estimate_memory(DEMO, SIZES, WEIGHTS, 4)
    assert need.weights == WEIGHTS
    assert need.block == 4 * 16 * 80 * 4  # layers, tokens, latent and rotary floats, bytes
    assert need.step > 3 * 4 * 8 * 4096  # three arrays of logits
    assert estimate_memory(DEMO, SIZES, WEIGHTS, 2).block == need.block // 2
    longer = replace(SIZES, max_step_tokens=512)
    rows = estimate_memory(DEMO, longer, WEIGHTS, 4).step - need.step
    assert rows >= 256 * 4 * 3 * DEMO.hidden_size


def test_memory_estimate_counts_keys_and_values_of_grouped_query_attention() -> None:
    need = estimate_memory(description(grouped(6, 2, 24), layers=3), SIZES, 0, 2)
    assert need.block == 16 * 3 * 2 * (2 * 24) * 2  # tokens, layers, keys and values, floats, bytes


def test_cache_fills_every_seat_where_memory_allows_or_is_unknown() -> None:
    need = estimate_memory(DEMO, SIZES, WEIGHTS, 4)
    assert choose_block_count(need, SIZES, 64 * 2**30) == 8 * 128
    assert choose_block_count(need, SIZES, None) == 8 * 128


def test_default_number_of_blocks_is_the_most_that_fits() -> None:
    need = estimate_memory(DEMO, SIZES, WEIGHTS, 4)
    assert choose_block_count(need, SIZES, need.total(500) + 1) == 500
    assert choose_block_count(need, SIZES, need.total(128)) == 128
    with pytest.raises(OptionError, match=r"memory limit of at least .* MiB"):
        choose_block_count(need, SIZES, need.total(127))


def test_too_many_blocks_are_rejected_with_the_number_that_fits() -> None:
    sizes = replace(SIZES, num_blocks=1000)
    need = estimate_memory(DEMO, sizes, WEIGHTS, 4)
    assert choose_block_count(need, sizes, need.total(1000)) == 1000
    with pytest.raises(OptionError, match=r"Fix: --num-blocks at most 999, or a memory limit"):
        choose_block_count(need, sizes, need.total(1000) - 1)
    with pytest.raises(OptionError, match=r"--num-blocks 100 holds 1600 tokens"):
        choose_block_count(need, replace(sizes, num_blocks=100), None)


def test_many_long_seats_are_rejected_by_the_memory_of_one_step() -> None:
    sizes = replace(SIZES, max_num_seqs=4096)
    need = estimate_memory(DEMO, sizes, WEIGHTS, 4)
    with pytest.raises(OptionError, match="a lower --max-model-len or --max-num-seqs"):
        choose_block_count(need, sizes, need.total(0) - need.step // 2)


def test_weights_that_do_not_fit_suggest_more_memory_only() -> None:
    need = estimate_memory(DEMO, SIZES, WEIGHTS, 4)
    with pytest.raises(OptionError, match="Fix: a memory limit of at least"):
        choose_block_count(need, SIZES, need.weights)


def tree(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc", root / "cgroup"


MEMINFO = "MemTotal: 9000000 kB\nMemAvailable: 1048576 kB\n"


def test_available_memory_is_that_of_the_machine_without_a_limit(tmp_path: Path) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/a\n", "cgroup/a/memory.max": "max\n"}
    assert available_memory(*tree(tmp_path, files)) == 1024 * MIB
    assert available_memory(tmp_path / "nothing", tmp_path / "nowhere") is None


@pytest.mark.parametrize("inside", ["", "pod/container/"])
def test_available_memory_is_the_cgroup_v2_limit_minus_usage(tmp_path: Path, inside: str) -> None:
    """In a container only the mount point exists; on a node the whole path does."""
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/pod/container\n",
        f"cgroup/{inside}memory.max": str(512 * MIB),
        f"cgroup/{inside}memory.current": str(200 * MIB),
        f"cgroup/{inside}memory.stat": f"anon 5\ninactive_file {100 * MIB}\n",
    }
    assert available_memory(*tree(tmp_path, files)) == 412 * MIB


def test_available_memory_is_the_smallest_limit_of_all_parent_cgroups(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/container\n",
        "cgroup/pod/container/memory.max": "max",
        "cgroup/pod/container/memory.current": str(10 * MIB),
        "cgroup/pod/memory.max": str(300 * MIB),
        "cgroup/pod/memory.current": str(100 * MIB),
    }
    assert available_memory(*tree(tmp_path, files)) == 200 * MIB


def test_available_memory_is_the_cgroup_v1_limit_minus_usage(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/pod\n0::/\n",
        "cgroup/memory/pod/memory.limit_in_bytes": str(512 * MIB),
        "cgroup/memory/pod/memory.usage_in_bytes": str(600 * MIB),
        "cgroup/memory/pod/memory.stat": f"total_inactive_file {50 * MIB}\n",
    }
    assert available_memory(*tree(tmp_path, files)) == 0
    (tmp_path / "cgroup/memory/pod/memory.limit_in_bytes").write_text("9223372036854771712")
    assert available_memory(*tree(tmp_path, {})) == 1024 * MIB

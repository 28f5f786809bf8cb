"""Experts in memory and mapped from a file: the same logits, bit for bit, whatever their place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memory_checkpoint import EXPERTS, MemoryCheckpoint, description, grouped
from paged_steps import Row, step_plan
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend
from r1_runtime.backends.cpu.library import Codec
from r1_runtime.errors import OptionError
from r1_runtime.experts.residency import (
    ExpertResidency,
    ExpertTotals,
    hottest,
    read_profile,
    write_profile,
)

NETWORK = description(grouped(), EXPERTS)


def backend(
    residency: ExpertResidency | None, threads: int = 1, codec: Codec = Codec.FLOAT32
) -> CpuBackend:
    return CpuBackend(
        MemoryCheckpoint(NETWORK),
        codecs=Codecs(codec, codec, codec, codec),
        blocks=64,
        block_size=16,
        threads=threads,
        residency=residency,
    )


def logits(
    native: CpuBackend, seed: int, evict: bool = False
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    tokens = [int(token) for token in np.random.default_rng(seed).integers(1, 130, 60)]
    parts = [native.step_with_logits(step_plan([Row(tokens, 0, 30, range(4))]))[1]]
    for at in range(30, 60):
        if evict:
            native.evict_experts()
        parts.append(native.step_with_logits(step_plan([Row(tokens, at, at + 1, range(4))]))[1])
    return np.concatenate(parts)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder on a disk."""
    try:
        backend(ExpertResidency(1.0, tmp_path)).close()
    except RuntimeError:
        pytest.skip("the temporary folder is in memory")
    return tmp_path


@pytest.mark.parametrize("codec", [Codec.FLOAT32, Codec.INT8, Codec.INT4_MIN])
@pytest.mark.parametrize("threads", [1, 2])
def test_logits_are_the_same_wherever_experts_are(disk: Path, codec: Codec, threads: int) -> None:
    whole = logits(backend(None, codec=codec), 1)
    for fraction in (0.0, 0.7, 1.0):
        residency = ExpertResidency(fraction, disk)
        np.testing.assert_array_equal(logits(backend(residency, threads, codec), 1), whole)


def test_logits_are_the_same_when_the_file_left_the_page_cache(disk: Path) -> None:
    native = backend(ExpertResidency(0.5, disk), threads=2)
    np.testing.assert_array_equal(logits(native, 2, evict=True), logits(backend(None), 2))


def test_experts_that_are_used_come_into_memory_without_changing_a_bit(disk: Path) -> None:
    uses = np.zeros((2, 8), np.uint64)
    uses[:, 6:] = 1  # a profile of other text
    native = backend(ExpertResidency(0.25, disk, uses))
    for seed in range(4):
        np.testing.assert_array_equal(logits(native, seed), logits(backend(None), seed))
    assert native.expert_totals().promotions > 0


def test_without_promotion_every_expert_keeps_its_place(disk: Path) -> None:
    native = backend(ExpertResidency(0.25, disk, promote=False, prefetch=False))
    logits(native, 0)
    assert native.expert_totals().promotions == 0


def test_hits_and_misses_count_the_experts_that_steps_read(disk: Path) -> None:
    native = backend(ExpertResidency(0.5, disk, promote=False))
    logits(native, 3)
    totals = native.expert_totals()
    assert totals.hits > 0
    assert totals.misses > 0
    assert 0 < totals.resident_bytes < totals.file_bytes
    full = backend(ExpertResidency(1.0, disk))
    logits(full, 3)
    assert full.expert_totals().misses == 0
    assert backend(None).expert_totals() == ExpertTotals()


def test_a_folder_in_memory_is_refused() -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("no tmpfs here")
    with pytest.raises(RuntimeError, match="tmpfs"):
        backend(ExpertResidency(0.5, Path("/dev/shm")))


def test_no_file_stays_in_the_folder(disk: Path) -> None:
    native = backend(ExpertResidency(0.5, disk))
    assert list(disk.iterdir()) == []
    native.close()


def test_the_hottest_experts_of_the_whole_model_are_resident() -> None:
    uses = np.array([[0, 0, 0, 0], [5, 1, 9, 0], [7, 7, 0, 0]], np.uint64)
    resident = hottest(uses, [0, 4, 2], 0.5)
    assert [one.tolist() for one in resident] == [[], [False, False, True, False], [True, True]]


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    uses = np.arange(8, dtype=np.uint64).reshape(2, 4)
    write_profile(tmp_path / "profile.json", uses, {"tokens": 3})
    np.testing.assert_array_equal(read_profile(tmp_path / "profile.json", [4, 4]), uses)


@pytest.mark.parametrize("text", ["", "{}", '{"uses": [[1]]}', '{"uses": [[-1, 2], [3, 4]]}'])
def test_a_profile_of_another_model_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(OptionError, match=r"--expert-profile .* Fix: record it again"):
        read_profile(path, [2, 2, 2])

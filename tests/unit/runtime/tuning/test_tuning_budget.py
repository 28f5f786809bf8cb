"""Budgets, the choice of techniques within them, and their manifest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from r1_runtime.config import R1Config
from r1_runtime.errors import OptionError
from r1_runtime.quality.figures import Difference, FigureKind
from r1_runtime.quality.timing import TimeRatio
from r1_runtime.tuning.budget import (
    Objective,
    QualityBudget,
    candidates,
    combined,
    fallbacks,
    parse_budget,
)
from r1_runtime.tuning.manifest import manifest
from r1_runtime.tuning.measurement import Measurement
from r1_runtime.tuning.registry import all_techniques, named_techniques
from r1_runtime.tuning.technique import Bars, Technique, TechniqueKind


def lost(change: float, width: float = 0.1) -> Difference:
    ends = (change - width, change + width)
    return Difference("perplexity", FigureKind.PERPLEXITY, 10.0, 10.0, change, *ends, 8)


def row(
    name: str,
    loss: float | None,
    decode: float,
    *,
    kind: TechniqueKind = TechniqueKind.WEIGHTS,
    changes: dict[str, Any] | None = None,
    bytes_ratio: float | None = None,
    equal: float | None = None,
    bars: Bars = Bars(),  # noqa: B008 - frozen
) -> Measurement:
    return Measurement(
        Technique(name, kind, "a claim", changes or {}, bars),
        () if loss is None else (lost(loss),),
        TimeRatio(decode, decode, decode, 0.1),
        bytes_ratio=bytes_ratio,
        equal_texts=equal,
    )


def test_budget_is_read_from_text() -> None:
    assert parse_budget("quality=0.5%") == QualityBudget(0.5)
    assert parse_budget("quality=1, retrieval=98%") == QualityBudget(1.0, 0.98)


@pytest.mark.parametrize(
    "text", ["", "0.5%", "quality=", "quality=a", "speed=2", "retrieval=9", "quality=1,quality=2"]
)
def test_budget_that_is_not_understood_names_the_form(text: str) -> None:
    with pytest.raises(OptionError, match="Fix: quality=0.5%"):
        parse_budget(text)


def test_upper_end_of_the_interval_has_to_keep_the_budget() -> None:
    assert QualityBudget(0.5).keeps([lost(0.35, 0.1)])
    assert not QualityBudget(0.5).keeps([lost(0.45, 0.1)])


def test_retrieval_is_compared_with_that_of_the_dense_model() -> None:
    share = Difference("retrieval", FigureKind.SHARE, 0.6, 0.8, -20, -30, -10, 10)
    assert QualityBudget(1, 0.7).keeps([share])
    assert not QualityBudget(1, 0.8).keeps([share])


def test_fastest_technique_of_each_kind_within_the_budget_is_chosen() -> None:
    rows = [
        row("lossy", 3.0, 0.2),
        row("good", 0.2, 0.5),
        row("slower", 0.1, 0.8),
        row("useless", 0.0, 1.1, kind=TechniqueKind.CACHE),
        row("exact", None, 0.7, kind=TechniqueKind.SPECULATION, equal=1.0),
        row("inexact", None, 0.1, kind=TechniqueKind.REUSE, equal=0.9),
    ]
    names = [each.technique.name for each in candidates(rows, QualityBudget(0.5), Objective.TIME)]
    assert names == ["good", "exact"]


def test_objective_decides_between_time_and_bytes() -> None:
    rows = [row("fast", 0.1, 0.5, bytes_ratio=0.6), row("small", 0.1, 0.9, bytes_ratio=0.3)]
    for objective, name in ((Objective.TIME, "fast"), (Objective.BYTES, "small")):
        [chosen] = candidates(rows, QualityBudget(0.5), objective)
        assert chosen.technique.name == name


def test_technique_that_loses_most_is_dropped_first() -> None:
    rows = [row("a", 0.4, 0.5), row("b", 0.1, 0.5), row("c", None, 0.5, equal=1.0)]
    names = [[each.technique.name for each in chosen] for chosen in fallbacks(rows)]
    assert names == [["c", "b", "a"], ["c", "b"], ["c"], []]


def test_combination_has_the_changes_of_all_and_is_dense_elsewhere() -> None:
    rows = [
        row("weights", 0.1, 0.5, changes={"quantization": "int4"}),
        row("drafts", None, 0.9, changes={"speculation": "ngram"}),
    ]
    config = combined(R1Config(base_model="x", threads=1), rows)
    assert (config.quantization, config.speculation) == ("int4", "ngram")
    assert (config.kv_cache_dtype, config.threads) == ("float32", 1)


def test_refused_technique_is_no_candidate_and_its_verdict_has_the_reason() -> None:
    refused = Measurement(row("a", 0, 1).technique, refused="no experts")
    assert candidates([refused], QualityBudget(9), Objective.TIME) == ()
    assert refused.verdict() == "refused: no experts"


def test_verdict_names_the_missed_limit_with_both_figures() -> None:
    bars = Bars(perplexity=0.3, decode=0.6)
    assert row("a", 0.2, 0.5, bars=bars).verdict() == "pays"
    assert row("a", 0.5, 0.7, bars=bars).verdict() == (
        "misses: perplexity +0.50 % > +0.3 %; decode 0.70 > 0.60 of dense"
    )
    assert row("a", 0.2, 1.2).verdict() == "does not pay: saves neither time nor bytes"
    assert "99.0% of greedy tokens equal" in row("a", None, 0.5, equal=0.99).verdict()


def test_time_is_saved_only_if_every_turn_saves() -> None:
    noisy = replace(row("a", 0.0, 0.9), decode=TimeRatio(0.9, 0.8, 1.1, 0.1))
    assert noisy.verdict() == "does not pay: saves neither time nor bytes"
    assert replace(noisy, bytes_ratio=0.5).verdict() == "pays"


def test_names_of_techniques_are_unique_and_their_switches_are_options() -> None:
    techniques = all_techniques()
    assert len({each.name for each in techniques}) == len(techniques) >= 8
    for each in techniques:
        applied = each.applied(R1Config(base_model="x"))
        assert {name: getattr(applied, name) for name in each.changes} == dict(each.changes)
        assert each.claim
        assert each.switch()


def test_unknown_technique_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="no technique INT3. Fix: one of .*INT8 weights"):
        named_techniques(["INT3"])


def test_manifest_has_fields_where_the_resource_has_them_and_arguments_elsewhere() -> None:
    yaml = pytest.importorskip("yaml")
    config = R1Config(
        base_model="x", threads=1, dtype="float32", quantization="int4", max_num_seqs=4,
        prefix_caching=False, kv_cache_dtype="float16", block_size=32,
    )  # fmt: skip
    spec = yaml.safe_load(manifest(config))["spec"]
    assert spec["runtime"] == {
        "dtype": "Float32",
        "maxConcurrentSequences": 4,
        "quantization": {"weights": "Int4"},
        "cache": {"dtype": "Float16", "prefixCaching": "Disabled"},
    }
    assert spec["engine"]["args"] == ["--block-size=32"]
    assert yaml.safe_load(manifest(R1Config(base_model="x"))) == {"spec": {}}

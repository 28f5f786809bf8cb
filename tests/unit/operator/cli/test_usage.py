"""`r1 usage`: rows of the gateways' counters, through a scripted Prometheus."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from exported_metrics import exported
from r1_operator.cli import main
from r1_operator.cli.usage import COUNTERS, NOT_BY_CLASS, promql, usage_rows
from scripted_prometheus import Script, success
from scripted_prometheus import scripted as prometheus


def vector(label: str, **values: float) -> bytes:
    result = [{"metric": {label: name}, "value": [0, str(v)]} for name, v in values.items()]
    return success(result, "vector")


@contextmanager
def scripted(body: bytes) -> Iterator[Script]:
    with prometheus() as script:
        script.reply.body = body
        yield script


def test_tenants_are_listed_with_their_tokens_and_the_queries_sum_over_gateways(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with scripted(vector("tenant", search=120.0, other=3.4)) as script:
        assert main(["usage", "--prometheus", script.url, "--since", "30d", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["tenant"] for row in document["rows"]] == ["search", "other"]
    assert document["rows"][0]["outputTokens"] == 120
    assert script.queries == [promql(name, "tenant", "30d") for name in COUNTERS]
    assert script.queries[0] == "sum by (tenant) (increase(r1_gateway_tenant_requests_total[30d]))"


def test_a_table_by_class_has_no_columns_without_that_label(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with scripted(vector("class", Q1=10.0)) as script:
        assert main(["usage", "--prometheus", script.url, "--by", "class"]) == 0
    assert len(script.queries) == len(COUNTERS) - len(NOT_BY_CLASS)
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["CLASS", "REQUESTS"]
    assert row.split()[:2] == ["Q1", "10"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prometheus", "http://localhost:9", "--since", "week"], "no duration"),
        (["--prometheus", "ftp://x"], "http"),
        (["--prometheus", ""], "--prometheus is missing"),
    ],
)
def test_wrong_usage_names_the_flag(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["usage", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_means_divide_the_sums_and_silent_tenants_have_no_row() -> None:
    values: dict[str, dict[str, float]] = {name: {"a": 0.0, "b": 4.0} for name in COUNTERS}
    values["queueSeconds"]["b"] = 2.0
    rows: list[dict[str, Any]] = usage_rows(values, "tenant")
    assert [row["tenant"] for row in rows] == ["b"]
    assert rows[0]["meanQueueSeconds"] == 0.5
    assert rows[0]["meanFirstTokenSeconds"] == 1.0


def test_every_counter_is_exported_by_the_gateway() -> None:
    assert set(COUNTERS.values()) <= {f"{family.name}_total" for family in exported()}

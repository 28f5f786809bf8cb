"""Partial data: a lower bound for a sum, unavailable for a history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from prometheus_clients import Ask, ask_external, ask_history, configured
from r1_operator.plan.unavailable import LowerBound
from scripted_prometheus import Reply, Script, matrix, vector

Client = tuple[Ask, Callable[..., bytes]]

STORE = "receive series from Addr: store-1:10901: rpc error: code = Unavailable"
PARTIAL: list[dict[str, Any]] = [
    {"warnings": [STORE]},
    {"warnings": ["PromQL info: a note", STORE]},
    {"warnings": STORE},
    {"warnings": {"store": "gone"}},
    {"warnings": [7]},
    {"isPartial": True},
]
WHOLE: list[dict[str, Any]] = [
    {"warnings": []},
    {"warnings": None},
    {"infos": ['PromQL info: metric might not be a counter: "jobs"']},
    {"warnings": ["PromQL warning: encountered a mix of histograms and floats"]},
    {"warnings": ["PromQL info: metric might not be a counter"]},
    {"isPartial": False},
    {"isPartial": "true?"},
]


@pytest.mark.parametrize("more", PARTIAL)
def test_a_partial_external_value_is_a_lower_bound(server: Script, more: dict[str, Any]) -> None:
    server.reply = Reply(200, vector(40.0, **more))
    read = ask_external(configured(server.url))
    assert isinstance(read, LowerBound)
    assert read.value == 40.0
    assert "partial data" in read.message


@pytest.mark.parametrize("more", PARTIAL)
def test_partial_history_is_unavailable(server: Script, more: dict[str, Any]) -> None:
    server.reply = Reply(200, matrix(40.0, 41.0, **more))
    read = ask_history(configured(server.url))
    assert isinstance(read, tuple)
    assert read[0] == "PartialData"


@pytest.mark.parametrize("more", WHOLE)
def test_notes_about_the_query_are_not_partial_data(
    client: Client, server: Script, more: dict[str, Any]
) -> None:
    ask, good = client
    server.reply = Reply(200, good(40.0, **more))
    assert ask(configured(server.url)) == 40.0


def test_the_cause_of_missing_data_is_quoted(server: Script) -> None:
    server.reply = Reply(200, matrix(1.0, warnings=[STORE]))
    outcome = ask_history(configured(server.url))
    assert isinstance(outcome, tuple)
    assert STORE in outcome[1]
    server.reply = Reply(200, vector(1.0, warnings=[STORE]))
    bound = ask_external(configured(server.url))
    assert isinstance(bound, LowerBound)
    assert STORE in bound.message


def test_partial_response_without_series_names_the_missing_part(server: Script) -> None:
    body = b'{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["store-1"]}'
    server.reply = Reply(200, body)
    outcome = ask_external(configured(server.url))
    assert isinstance(outcome, tuple)
    assert outcome[0] == "NoData"
    assert "store-1" in outcome[1]

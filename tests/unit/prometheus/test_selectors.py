"""Label matchers of a site in every selector of every query."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prometheus_clients import Ask, configured
from r1_common.prometheus.selectors import add_matchers, matcher
from scripted_prometheus import Reply, Script, success

Client = tuple[Ask, Callable[..., bytes]]
A = '{cluster="a"}'


@pytest.mark.parametrize(
    ("query", "narrowed"),
    [
        ("up", f"up{A}"),
        ("up{}", f"up{A}"),
        ("sum(up)", f"sum(up{A})"),
        ("sum by (job) (up)", f"sum by (job) (up{A})"),
        ("sum(up) by (job)", f"sum(up{A}) by (job)"),
        ('SUM BY (job) (rate(up{a="b",}[5m]))', 'SUM BY (job) (rate(up{a="b",cluster="a"}[5m]))'),
        ("a / on(x) group_left(y) b", f"a{A} / on(x) group_left(y) b{A}"),
        ("a / ON (x) group_left b", f"a{A} / ON (x) group_left b{A}"),
        ("a * ignoring(x, y) (b + c)", f"a{A} * ignoring(x, y) (b{A} + c{A})"),
        ("a and b or c unless d", f"a{A} and b{A} or c{A} unless d{A}"),
        ("a > bool 1", f"a{A} > bool 1"),
        ("a >= bool b", f"a{A} >= bool b{A}"),
        ("a >= bool (b + c)", f"a{A} >= bool (b{A} + c{A})"),
        ("1 == bool on(x) (b)", f"1 == bool on(x) (b{A})"),
        ("a offset 5m - b", f"a{A} offset 5m - b{A}"),
        ("rate(a[5m] offset -1h)", f"rate(a{A}[5m] offset -1h)"),
        ("max_over_time(a[5m:1m])", f"max_over_time(a{A}[5m:1m])"),
        ("a @ start() + b @ 1.5", f"a{A} @ start() + b{A} @ 1.5"),
        ("rate(a[5m] smoothed)", f"rate(a{A}[5m] smoothed)"),
        ("vector(1)", "vector(1)"),
        ("time() - 5", "time() - 5"),
        ("-a + NaN * inf", f"-a{A} + NaN * inf"),
        ("1e-5 * a + 0x1F", f"1e-5 * a{A} + 0x1F"),
        ("label_replace(up, 'a', '$1', \"b\", `(.*)`)",
         f"label_replace(up{A}, 'a', '$1', \"b\", `(.*)`)"),
        ('{__name__="up"}', '{__name__="up",cluster="a"}'),
        ('{"up", job=~"x}"}', '{"up", job=~"x}",cluster="a"}'),
        ("a{x='}\\'{'}", "a{x='}\\'{',cluster=\"a\"}"),
        ("a # not b }\n + c", f"a{A} # not b }}\n + c{A}"),
        ("a{ # x\n}", 'a{ # x\ncluster="a"}'),
        ('a{x="y" # z\n}', 'a{x="y" # z\n,cluster="a"}'),
        ("a {b='c'}", "a {b='c',cluster=\"a\"}"),
        ("topk(5, a) without (x)", f"topk(5, a{A}) without (x)"),
        ("quantile without (x) (0.9, a)", f"quantile without (x) (0.9, a{A})"),
        ("count_values('v', a)", f"count_values('v', a{A})"),
        ("job:x:rate5m", f"job:x:rate5m{A}"),
        ('a{cluster="b"}', 'a{cluster="b"}'),
        ('a{cluster!="b"} + b', f'a{{cluster!="b"}} + b{A}'),
        ('a{"cluster"=~"b|c"}', 'a{"cluster"=~"b|c"}'),
        ("sum(", "sum("),
        ('a{b="c', 'a{b="c'),
        ("a{b='c'", "a{b='c'"),
        ("", ""),
        ("ä", "ä"),
    ],
)  # fmt: skip
def test_every_selector_gets_the_matchers(query: str, narrowed: str) -> None:
    assert add_matchers(query, [("cluster", "a")]) == narrowed


def test_query_without_matchers_is_unchanged() -> None:
    assert add_matchers("sum( up )", ()) == "sum( up )"


def test_selector_keeps_its_own_matcher_and_gets_the_others() -> None:
    both = [("cluster", "a"), ("zone", "z")]
    assert add_matchers('up{cluster="b"}', both) == 'up{cluster="b",zone="z"}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('a"} or up{b="', 'c="a\\"} or up{b=\\""'),
        ("back\\slash", 'c="back\\\\slash"'),
        ("two\nlines", 'c="two\\nlines"'),
        ("", 'c=""'),
        ("a|b.*", 'c="a|b.*"'),
        ("größe", 'c="größe"'),
    ],
)
def test_values_are_escaped(value: str, text: str) -> None:
    assert matcher("c", value) == text


METRIC = st.sampled_from(["up", "a:b", "node_load1", "sum_total", "by_total", "on_total"])
LABELS = st.sampled_from(["", "{}", '{x="}{"}', "{x=~'a|b',}", '{x!="(sum"}'])
SELECTOR = st.tuples(METRIC, LABELS).map("".join)
EXPRESSION = st.recursive(
    SELECTOR | st.sampled_from(["1", "2.5e3", "NaN", "vector(1)", "time()"]),
    lambda inner: st.one_of(
        inner.map(lambda one: f"sum by (x, y) ({one})"),
        inner.map(lambda one: f"max({one}) without (x)"),
        SELECTOR.map(lambda one: f"rate({one}[5m] offset 1m)"),
        inner.map(lambda one: f"max_over_time(({one})[5m:1m])"),
        st.tuples(
            inner,
            st.sampled_from(
                [" + ", " / on(x) group_left(y) ", " unless ignoring(z) ", " == bool "]
            ),
            inner,
        ).map(lambda parts: f"({''.join(parts)})"),
        inner.map(lambda one: f"label_replace({one}, 'a', '$1', 'b', 'up(.*)')"),
    ),
    max_leaves=8,
)


@given(EXPRESSION, st.text(max_size=8))
def test_each_selector_gets_the_matchers_once(query: str, value: str) -> None:
    added = matcher("cluster", value)
    narrowed = add_matchers(query, [("cluster", value)])
    metrics = r"\b(?:up|a:b|node_load1|sum_total|by_total|on_total)\b(?!\()"
    selectors = len(re.findall(metrics, query))
    assert narrowed.replace(added, "").count("cluster") == 0
    assert narrowed.count(added) == selectors
    assert add_matchers(narrowed, [("cluster", value)]) == narrowed


@given(st.text(alphabet="ab{}()[]\"'`,=!~# \n\\#:by on1.5m", max_size=30))
def test_invalid_promql_is_returned_unchanged(query: str) -> None:
    narrowed = add_matchers(query, [("cluster", "x")])
    assert narrowed.replace('cluster="x"', "").replace("{}", "").replace(",", "") == query.replace(
        "{}", ""
    ).replace(",", "")


def test_clients_add_the_matchers_and_name_them_without_data(
    client: Client, server: Script
) -> None:
    ask, _ = client
    for kind in ("matrix", "vector"):
        server.reply = Reply(200, success([], kind))
        outcome = ask(configured(server.url, matchers={"cluster": 'a"b'}))
    assert server.queries[-1] == 'sum(demand{cluster="a\\"b"})'
    assert isinstance(outcome, tuple)

"""The keys file: callers, tenants, and invalid entries that leave the others alone."""

import hashlib
import json

import pytest

from r1_common.contracts.priority_classes import PriorityClass
from r1_common.contracts.route import RouteSpec
from r1_gateway.tenants.keys import InvalidKeys, parse_keys
from r1_gateway.tenants.limits import TenantLimits

Q1, Q2, Q3 = PriorityClass
DIGEST = hashlib.sha256(b"sk-1").hexdigest()
OTHER = hashlib.sha256(b"sk-2").hexdigest()


def test_keys_are_found_by_their_digest() -> None:
    ring = parse_keys({DIGEST.upper(): {"tenant": "a", "maxClass": "q3"}})
    key = ring.find(b"bearer  sk-1 ")
    assert key is not None
    assert (key.tenant, key.default_class, key.max_class) == ("a", None, Q3)
    for header in (None, b"", b"Bearer", b"Bearer ", b"Basic sk-1", b"Bearer sk-2", b"sk-1"):
        assert ring.find(header) is None


INVALID_KEYS = [
    ({"sk-1": {"tenant": "a"}}, "SHA-256"),
    ({DIGEST: []}, "must be an object"),
    ({DIGEST: {}}, "tenant"),
    ({DIGEST: {"tenant": ""}}, "tenant"),
    ({DIGEST: {"tenant": "a", "maxClass": "Q9"}}, "maxClass: unknown priority class 'Q9'"),
    ({DIGEST: {"tenant": "a", "class": "Q1"}}, "unknown field 'class'"),
    ({DIGEST: {"tenant": "a", "models": "chat"}}, "models must be a list"),
    ({DIGEST: {"tenant": "a\n"}}, "tenant must be"),
]


@pytest.mark.parametrize(("document", "words"), INVALID_KEYS)
def test_an_invalid_key_is_rejected_by_name_and_the_others_stay(
    document: dict[str, object], words: str
) -> None:
    ring = parse_keys({**document, OTHER: {"tenant": "b"}})
    assert len(ring.problems) == 1
    assert words in ring.problems[0]
    assert DIGEST not in ring.problems[0]
    assert "sk-1 " not in ring.problems[0]
    assert set(ring.by_digest) == {OTHER}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "JSON object"),
        ({"keys": []}, "keys must be a JSON object"),
        ({"keys": {}, "price": {}}, "unknown field 'price'"),
    ],
)
def test_a_document_without_entries_is_rejected_as_a_whole(document: object, words: str) -> None:
    with pytest.raises(InvalidKeys, match=words):
        parse_keys(document)


FULL = {
    "tenants": {
        "search": {
            "weight": 2,
            "maxClass": "Q2",
            "defaultClass": "Q3",
            "models": ["chat", "r1"],
            "limits": {"requestsPerMinute": 60, "tokensPerDay": 10**9},
        }
    },
    "keys": {DIGEST: {"tenant": "search", "name": "ci", "maxClass": "Q1", "models": ["chat", "x"]}},
    "prices": {"*": {"input": 1, "output": 2}, "shop/r1": {"output": 8.0}},
}


def test_a_key_has_the_rights_of_its_tenant_and_may_only_narrow_them() -> None:
    ring = parse_keys(FULL)
    assert ring.problems == ()
    caller = ring.find(b"Bearer sk-1")
    assert caller is not None
    assert (caller.tenant, caller.key_id, caller.weight) == ("search", "ci", 2.0)
    assert (caller.default_class, caller.max_class) == (Q3, Q2)
    assert caller.models == frozenset({"chat"})
    assert caller.limits == TenantLimits(requests_per_minute=60, tokens_per_day=10**9)


def test_prices_are_found_by_resource_then_for_all_models() -> None:
    prices = parse_keys(FULL).prices
    assert prices.of(RouteSpec("shop", "r1", ("r1",), 1)).cost(10**6, 10**6) == 8.0
    assert prices.of(RouteSpec("other", "r1", ("r1",), 1)).cost(10**6, 10**6) == 3.0


INVALID_TENANTS = [
    ({"weight": 0}, "weight must be a number from 0.01"),
    ({"weight": True}, "weight"),
    ({"weight": float("nan")}, "weight"),
    ({"limits": {"tokensPerHour": 1}}, "unknown field 'tokensPerHour'"),
    ({"limits": {"tokensPerDay": 0}}, "limits.tokensPerDay must be a whole number"),
    ({"limits": {"tokensPerDay": 1.5}}, "limits.tokensPerDay"),
    ({"limits": []}, "limits: must be an object"),
    ({"maxClass": {}}, "maxClass"),
]


@pytest.mark.parametrize(("tenant", "words"), INVALID_TENANTS)
def test_an_invalid_tenant_gives_its_keys_no_unlimited_access(
    tenant: dict[str, object], words: str
) -> None:
    ring = parse_keys(
        {
            "tenants": {"a": tenant, "b": {}},
            "keys": {DIGEST: {"tenant": "a"}, OTHER: {"tenant": "b"}},
        }
    )
    assert "tenant 'a'" in ring.problems[0]
    assert words in ring.problems[0]
    assert "its tenant 'a' is invalid" in ring.problems[1]
    assert set(ring.by_digest) == {OTHER}


def test_an_invalid_version_of_an_entry_keeps_the_earlier_one() -> None:
    earlier = parse_keys(FULL)
    changed = json.loads(json.dumps(FULL))
    changed["tenants"]["search"]["weight"] = -1
    changed["keys"][DIGEST]["maxClass"] = "Q0"
    changed["keys"][OTHER] = {"tenant": "new"}
    changed["prices"]["*"] = {"input": -1}
    ring = parse_keys(changed, earlier)
    assert [problem.rpartition("; ")[2] for problem in ring.problems] == [
        "keeping the earlier version"
    ] * 3
    assert ring.by_digest[DIGEST] is earlier.by_digest[DIGEST]
    assert ring.by_digest[OTHER].tenant == "new"
    assert ring.tenants["search"].weight == 2.0
    assert ring.prices.by_model["*"].output == 2.0


def test_a_removed_key_is_unknown_at_once() -> None:
    ring = parse_keys({"keys": {}}, parse_keys(FULL))
    assert ring.find(b"Bearer sk-1") is None
    assert ring.problems == ()

"""Test cases for conflicts of model names, for the gateway and the operator.

Each resource is `(namespace, name, aliases)`, the oldest first. `lost` has by `namespace/name` the
names that another resource owns, with that resource.
"""

from typing import NamedTuple


class Case(NamedTuple):
    """A set of resources, and the claimed names that another resource owns."""

    resources: tuple[tuple[str, str, tuple[str, ...]], ...]
    lost: dict[str, dict[str, str]]


CASES = {
    "no conflict": Case((("a", "r1", ("chat",)), ("b", "r2", ("fast",))), {}),
    "an older alias does not take a resource's own name": Case(
        (("thief", "x", ("production-r1",)), ("team-a", "production-r1", ())),
        {"thief/x": {"production-r1": "team-a/production-r1"}},
    ),
    "an older alias in the same namespace does not take a resource's own name": Case(
        (("a", "x", ("r1",)), ("a", "r1", ())), {"a/x": {"r1": "a/r1"}}
    ),
    "the older of two equal own names has precedence": Case(
        (("b", "r1", ()), ("a", "r1", ())), {"a/r1": {"r1": "b/r1"}}
    ),
    "own names have precedence over an alias": Case(
        (("z", "x", ("r1",)), ("b", "r1", ()), ("a", "r1", ("chat",))),
        {"z/x": {"r1": "b/r1"}, "a/r1": {"r1": "b/r1"}},
    ),
    "the older of two equal aliases has precedence": Case(
        (("b", "x", ("chat",)), ("a", "y", ("chat", "fast"))), {"a/y": {"chat": "b/x"}}
    ),
    "an alias cannot be another resource's full name": Case(
        (("thief", "x", ("team-a/r1",)), ("team-a", "r1", ())),
        {"thief/x": {"team-a/r1": "team-a/r1"}},
    ),
    "a full name without a resource may be an alias": Case(
        (("a", "x", ("b/gone",)), ("b", "y", ())), {}
    ),
    "a resource may list its own name as alias": Case((("a", "x", ("x", "a/x")),), {}),
    "two resources have each other's name as alias": Case(
        (("a", "x", ("y",)), ("b", "y", ("x",))), {"a/x": {"y": "b/y"}, "b/y": {"x": "a/x"}}
    ),
}

"""Cases of the rule that decides between claims to a model name, for the gateway and the operator.

Each resource is `(namespace, name, aliases)`, the oldest first; `lost` has by `namespace/name` the
names that do not reach it, with the resource that they reach.
"""

from typing import NamedTuple


class Case(NamedTuple):
    """One set of resources, and the names that do not reach the resource that claims them."""

    resources: tuple[tuple[str, str, tuple[str, ...]], ...]
    lost: dict[str, dict[str, str]]


CASES = {
    "no conflict": Case((("a", "r1", ("chat",)), ("b", "r2", ("fast",))), {}),
    "an older alias does not take a resource's own name": Case(
        (("thief", "x", ("production-r1",)), ("team-a", "production-r1", ())),
        {"thief/x": {"production-r1": "team-a/production-r1"}},
    ),
    "nor does an older alias in the same namespace": Case(
        (("a", "x", ("r1",)), ("a", "r1", ())), {"a/x": {"r1": "a/r1"}}
    ),
    "of two equal own names the older has it": Case(
        (("b", "r1", ()), ("a", "r1", ())), {"a/r1": {"r1": "b/r1"}}
    ),
    "two own names and an alias between": Case(
        (("z", "x", ("r1",)), ("b", "r1", ()), ("a", "r1", ("chat",))),
        {"z/x": {"r1": "b/r1"}, "a/r1": {"r1": "b/r1"}},
    ),
    "of two equal aliases the older has it": Case(
        (("b", "x", ("chat",)), ("a", "y", ("chat", "fast"))), {"a/y": {"chat": "b/x"}}
    ),
    "an alias is no way to another's full name": Case(
        (("thief", "x", ("team-a/r1",)), ("team-a", "r1", ())),
        {"thief/x": {"team-a/r1": "team-a/r1"}},
    ),
    "a full name of nobody is an alias": Case((("a", "x", ("b/gone",)), ("b", "y", ())), {}),
    "a resource that repeats its own name": Case((("a", "x", ("x", "a/x")),), {}),
    "each has the other's name as alias": Case(
        (("a", "x", ("y",)), ("b", "y", ("x",))), {"a/x": {"y": "b/y"}, "b/y": {"x": "a/x"}}
    ),
}

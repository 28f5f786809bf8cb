"""A metric of the page: name, type, help, labels, and its sample lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from r1_gateway.routes.route import Route

Rows = Iterator[str]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name without suffix, type, help, labels, and the sample lines of one route."""

    name: str
    type: str
    text: str
    labels: tuple[str, ...]
    rows: Callable[[Route, str, str, float], Rows]
    """``rows(route, sample name, route labels, now)``"""

    @property
    def sample(self) -> str:
        """Name of the samples, without a histogram's suffixes."""
        return self.name + "_total" if self.type == "counter" else self.name

    def head(self) -> str:
        """The HELP and TYPE lines."""
        return f"# HELP {self.sample} {self.text}\n# TYPE {self.sample} {self.type}\n"


def no_rows(route: Route, sample: str, labels: str, now: float) -> Rows:
    """For a family whose samples belong to no route."""
    yield from ()


def sample_lines(family: Family, samples: Iterable[tuple[tuple[object, ...], float]]) -> Rows:
    """Head and samples (values of the labels, value) of a family that belongs to no route."""
    yield family.head()
    for label_values, value in samples:
        pairs = zip(family.labels, label_values, strict=True)
        labels = ",".join(f'{label}="{_escape(str(text))}"' for label, text in pairs)
        braces = f"{{{labels}}}" if labels else ""
        yield f"{family.sample}{braces} {float(value)!r}\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

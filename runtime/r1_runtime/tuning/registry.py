"""All techniques: every module of `tuning.techniques` has a tuple `TECHNIQUES`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

from r1_runtime.errors import OptionError
from r1_runtime.tuning import techniques
from r1_runtime.tuning.technique import Technique


def all_techniques() -> tuple[Technique, ...]:
    """The techniques of all modules, in order of the modules' names."""
    names = sorted(each.name for each in pkgutil.iter_modules(techniques.__path__))
    modules = (importlib.import_module(f"{techniques.__name__}.{name}") for name in names)
    return tuple(technique for module in modules for technique in module.TECHNIQUES)


def named_techniques(names: Sequence[str]) -> tuple[Technique, ...]:
    """The techniques of these names; all of them without a name.

    Raises:
        OptionError: a name is unknown.
    """
    known = {each.name: each for each in all_techniques()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise OptionError(
            f"--techniques: no technique {', '.join(unknown)}. Fix: one of {', '.join(known)}."
        )
    return tuple(known[name] for name in names) or tuple(known.values())

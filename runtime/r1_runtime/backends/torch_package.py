"""The package torch, which only some backends need: an error that names how to install it."""

from __future__ import annotations

from importlib.util import find_spec

from r1_runtime.errors import OptionError

INSTALL_TORCH = (
    "pip install 'r1-inference-operator[runtime,torch]' (the image r1-runtime-cuda has it)"
)


def torch_installed() -> bool:
    """Whether torch can be imported; it is not imported here."""
    return find_spec("torch") is not None


def torch_missing(what: str, otherwise: str) -> OptionError:
    """The error for a start that needs torch.

    Args:
        what: what needs it, as the subject of the sentence.
        otherwise: the action that needs no torch.
    """
    return OptionError(
        f"command line: {what} needs torch, which is not installed. Fix: {INSTALL_TORCH}, or"
        f" {otherwise}."
    )

"""Options of a service, from flags and environment variables.

The flag ``--admin-port`` of a service with the prefix ``R1_GATEWAY`` is also the variable
``R1_GATEWAY_ADMIN_PORT``. A flag overrides the variable, which overrides the default. Both are
converted by the same function, and an error names the one that has the wrong value.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

Convert = Callable[[str], Any]


class InvalidOption(ValueError):
    """A value that an option does not accept; the message names the flag or the variable."""


def boolean(text: str) -> bool:
    """Convert true or false, in the usual spellings."""
    words = {"true": True, "1": True, "yes": True, "on": True}
    words |= {"false": False, "0": False, "no": False, "off": False}
    try:
        return words[text.strip().lower()]
    except KeyError:
        raise ValueError(f"{text!r} must be true or false") from None


def whole_number(text: str) -> int:
    """Convert an integer."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} must be a whole number") from None


def number(text: str) -> float:
    """Convert a number."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} must be a number") from None


def items(text: str) -> tuple[str, ...]:
    """Convert a list separated by commas; empty items are left out."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def optional_path(text: str) -> Path | None:
    """Convert a path; None for empty text."""
    return Path(text) if text else None


@dataclass(frozen=True, slots=True)
class _Option:
    dest: str
    flag: str
    variable: str
    default: Any
    convert: Convert


class OptionParser:
    """Declares the options of a service, then reads them."""

    def __init__(
        self,
        prefix: str,
        environment: Mapping[str, str] | None = None,
        *,
        empty_is_unset: bool = False,
        **texts: Any,
    ) -> None:
        """``texts`` are arguments of argparse, such as ``prog``, ``description`` and ``epilog``.

        With ``empty_is_unset`` a variable without text counts as absent.
        """
        self._prefix = prefix
        self._environment = os.environ if environment is None else environment
        self._empty_is_unset = empty_is_unset
        self._parser = argparse.ArgumentParser(**texts)
        self._group: argparse._ActionsContainer = self._parser
        self._options: list[_Option] = []

    def begin_group(self, title: str, description: str) -> None:
        """The options that follow are shown under ``title`` in the help."""
        self._group = self._parser.add_argument_group(title, description)

    def add(
        self,
        flag: str,
        default: Any,
        text: str,
        convert: Convert = str,
        *,
        metavar: str = "VALUE",
        repeated_as: str | None = None,
    ) -> None:
        """Declare an option; ``convert`` raises ValueError with the cause.

        ``repeated_as``: the name of a list, each of whose items the flag adds; the variable has them
        separated by commas.
        """
        option = self._option(repeated_as or _dest(flag), flag, default, convert)
        self._group.add_argument(
            flag,
            dest=option.dest,
            action="append" if repeated_as else "store",
            metavar=metavar,
            help=_help(text, default),
        )

    def add_switch(
        self, flag: str, text: str, *, default: bool = False, negatable: bool = False
    ) -> None:
        """Declare a flag without a value; ``negatable`` adds ``--no-...``."""
        option = self._option(_dest(flag), flag, default, boolean)
        self._group.add_argument(
            flag, dest=option.dest, action="store_const", const="true", help=_help(text, None)
        )
        if negatable:
            self._group.add_argument(
                f"--no-{flag.removeprefix('--')}",
                dest=option.dest,
                action="store_const",
                const="false",
                help=argparse.SUPPRESS,
            )

    def parse(self, arguments: Sequence[str] | None = None) -> dict[str, Any]:
        """Values of all options; ``arguments`` defaults to those of the process.

        Raises:
            InvalidOption: a value does not convert.
            SystemExit: of argparse, for an unknown flag or ``--help``.
        """
        given = vars(self._parser.parse_args(arguments))
        return {option.dest: self._value(option, given[option.dest]) for option in self._options}

    def parse_or_exit(self, arguments: Sequence[str] | None = None) -> dict[str, Any]:
        """As `parse`, but an invalid value ends the process with status 2."""
        try:
            return self.parse(arguments)
        except InvalidOption as error:
            self.error(str(error))

    def error(self, message: str) -> NoReturn:
        """End the process with status 2, the usage and the message."""
        self._parser.error(message)

    def _option(self, dest: str, flag: str, default: Any, convert: Convert) -> _Option:
        option = _Option(dest, flag, f"{self._prefix}_{dest.upper()}", default, convert)
        self._options.append(option)
        return option

    def _value(self, option: _Option, given: Any) -> Any:
        if given is not None:
            source, text = option.flag, ",".join(given) if isinstance(given, list) else given
        else:
            source, text = option.variable, self._environment.get(option.variable)
            # A Service called r1-gateway makes Kubernetes set R1_GATEWAY_PORT=tcp://... in every pod.
            if text is None or text.startswith("tcp://") or (self._empty_is_unset and not text):
                return option.default
        try:
            return option.convert(text)
        except (ValueError, OSError) as error:
            raise InvalidOption(f"{source}: {error}") from error


def _dest(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _help(text: str, default: Any) -> str:
    shown = ",".join(default) if isinstance(default, tuple) else str(default)
    if not isinstance(default, str | int | float | tuple | Path) or not shown:
        shown = ""
    return f"{text}{f' (default {shown})' if shown else ''}".replace("%", "%%")

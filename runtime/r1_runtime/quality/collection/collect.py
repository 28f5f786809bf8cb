"""An evaluation set from this machine's documentation, the same for the same seed and packages."""

from __future__ import annotations

import random
from itertools import zip_longest

from r1_runtime.errors import OptionError
from r1_runtime.quality.collection.debian_texts import Machine, documents, manual_pages
from r1_runtime.quality.collection.items import clozes, manual_choices, package_choices
from r1_runtime.quality.evaluation_set import SAMPLE, EvaluationSet

_HERE = Machine()
DOCUMENTS, ITEMS = 48, 150
_LEAST_DOCUMENTS = 4


def collect(seed: int, machine: Machine = _HERE) -> tuple[EvaluationSet, EvaluationSet]:
    """Two sets without a common document: one to evaluate on, one to calibrate on.

    Args:
        seed: of all choices.
        machine: the folders that are read.

    Raises:
        OptionError: the machine has too little documentation.
    """
    generator = random.Random(seed)  # noqa: S311 - repeatable choices, no secret
    found = documents(machine, generator, DOCUMENTS)
    # The sources in turns, so that each has a part in a few documents as well.
    mixed = [one for turn in zip_longest(*found.values()) for one in turn if one is not None]
    if len(mixed) < 2 * _LEAST_DOCUMENTS:
        raise OptionError(
            f"collect: this machine has {len(mixed)} documents of 9,000 characters of prose in"
            f" /usr/share/doc, /usr/share/man and /usr/share/info, but {2 * _LEAST_DOCUMENTS} are needed."
            " Fix: install documentation (apt-get install manpages coreutils-doc; slim images leave it"
            f" out), or use --texts {SAMPLE}, or your own text with --text FILE."
        )
    half = min(DOCUMENTS, len(mixed) // 2)
    evaluated, calibrated = mixed[:half], mixed[half : 2 * half]
    questions = package_choices(machine.status(), generator, ITEMS // 2)
    questions += manual_choices(list(manual_pages(machine)), generator, ITEMS // 2)
    generator.shuffle(questions)
    return (
        EvaluationSet(
            f"debian-{seed}",
            tuple(evaluated),
            tuple(questions),
            tuple(clozes(evaluated, generator, ITEMS)),
        ),
        EvaluationSet(f"debian-{seed}-calibration", tuple(calibrated)),
    )

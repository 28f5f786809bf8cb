"""`python -m r1_operator run` and `python -m r1_operator crd`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence

from r1_operator.settings import BadSetting, OperatorSettings

USAGE = """\
usage: r1-operator run [flags]   run the operator (flags: r1-operator run --help)
       r1-operator crd           print the CustomResourceDefinitions
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; exit code 0: stopped by a signal, 1: failed or lost the Lease, 2: wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["run"]:
        # PID 1 of a container has no default signal action, and `run_operator` installs its handler later.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        return _run(given[1:])
    if given[:1] == ["crd"]:
        from r1_operator.cli import main as r1

        return r1(given)
    print(USAGE, end="", file=sys.stdout if "--help" in given or "-h" in given else sys.stderr)
    return 0 if "--help" in given or "-h" in given else 2


def _run(arguments: Sequence[str]) -> int:
    try:
        settings = OperatorSettings.load(arguments)
    except BadSetting as error:
        print(f"r1-operator: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=logging.DEBUG if settings.dev else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("kopf", "asyncio", "aiohttp", "kubernetes"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # A listing creates a million objects and no cycles. With the default thresholds the collector
    # scans them and all stores repeatedly: a third of the CPU of a start with 10,000 resources.
    gc.set_threshold(10_000, 50, 100)
    from r1_operator.controller.manager import (
        run_operator,
    )  # imports kopf, which `--help` does not need
    from r1_operator.controller.reconcile.site_templates import check_site_templates
    from r1_operator.kube.client import KubeApiError

    try:
        check_site_templates(settings)
        return asyncio.run(run_operator(settings))
    except BadSetting as error:
        print(f"r1-operator: {error}", file=sys.stderr)
        return 2
    except KubeApiError as error:
        print(f"r1-operator: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

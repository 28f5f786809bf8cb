"""The image of a backtest holds every package of ours that a backtest imports."""

from __future__ import annotations

import re
import subprocess
import sys

from r1_cluster.paths import repository_root

ASK = """
import sys
import r1_evaluation.backtest.command
print(*sorted({name.partition(".")[0] for name in sys.modules if name.startswith("r1_")}))
"""


def test_the_image_copies_every_imported_package() -> None:
    imported = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, check=True
    )
    text = (repository_root() / "images" / "backtest.Containerfile").read_text()
    copied = set(re.findall(r"^COPY \S+ /opt/app/(r1_\w+)$", text, re.MULTILINE))
    assert set(imported.stdout.split()) <= copied

"""What each sparse or quantised technique costs and saves, on the real small model.

`python -m r1_bench.sparsity [--model bundled:smollm2] [--size default] [--quick] [--only MODULE,...]`

Quality is compared with the dense float32 model on the same texts, with the 95 % interval of a paired
bootstrap over documents. CPU time is measured in turns with each technique's baseline. Writes
`out/bench-sparsity.json`, `.md` and `.png`. Evaluations are stored in `out/quality/results` and are not
repeated while model, texts, options and native code are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from r1_bench.sparsity.chart import draw
from r1_bench.sparsity.registry import row_modules
from r1_bench.sparsity.report import markdown
from r1_bench.sparsity.row import SparsityRow
from r1_runtime.config import R1Config
from r1_runtime.errors import OptionError
from r1_runtime.quality.collection.collect import collect
from r1_runtime.quality.evaluation_set import EvaluationSet, read_set
from r1_runtime.quality.progress import progress_lines
from r1_runtime.quality.size import SIZES
from r1_runtime.quality.stored_results import FOLDER
from r1_runtime.quality.timing import QUICK_TIMING, TimingSize
from r1_runtime.tuning.measure import MeasureInput

OUT = Path("out")
TEXTS = OUT / "quality/texts.json"
SEED = 1


def evaluation_texts(path: str | None) -> EvaluationSet:
    """A given set, or that of this machine, which is collected once."""
    if path is not None:
        return read_set(path)
    if not TEXTS.is_file():
        collect(SEED)[0].write(TEXTS)
    return read_set(str(TEXTS))


def measured_rows(given: MeasureInput, names: Sequence[str]) -> Iterator[SparsityRow]:
    """The rows of the named modules; of all without a name.

    Raises:
        OptionError: a name is unknown.
    """
    modules = row_modules()
    unknown = [name for name in names if name not in modules]
    if unknown:
        raise OptionError(
            f"--only: no module {', '.join(unknown)}. Fix: one of {', '.join(modules)}."
        )
    for name in names or modules:
        yield from modules[name].rows(given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.sparsity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="bundled:smollm2", help="checkpoint folder, GGUF file or bundled:NAME")
    add("--texts", help="evaluation set, or sample; without it, this machine's documentation")
    add("--size", choices=SIZES, default="default", help="how much is evaluated (default)")
    add(
        "--quick", action="store_const", const="quick", dest="size", help="the same as --size quick"
    )
    add("--only", default="", help=f"modules of rows, of {', '.join(row_modules())}")
    add("--threads", type=int, default=1, help="CPU threads (1)")
    options = parser.parse_args(arguments)
    given = MeasureInput(
        config=R1Config(base_model=options.model, threads=options.threads),
        texts=evaluation_texts(options.texts),
        size=SIZES[options.size],
        timing=QUICK_TIMING if options.size == "quick" else TimingSize(),
        folder=FOLDER,
        progress=progress_lines(),
    )
    rows = []
    for row in measured_rows(given, [name for name in options.only.split(",") if name]):
        print(f"{row.name}: {row.verdict}", flush=True)
        rows.append(row)
        write(rows, given)
    print()
    print(markdown(rows))
    return 1 if any(row.missed for row in rows) else 0


def write(rows: Sequence[SparsityRow], given: MeasureInput) -> None:
    """Write JSON, Markdown and the picture; after each row, so that a cut leaves the finished ones."""
    OUT.mkdir(exist_ok=True)
    about = {
        "model": given.config.base_model,
        "texts": f"{given.texts.name} {given.texts.identity()}",
        "size": asdict(given.size),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }
    fields = {"about": about, "rows": [asdict(row) for row in rows]}
    (OUT / "bench-sparsity.json").write_text(json.dumps(fields, indent=2) + "\n")
    (OUT / "bench-sparsity.md").write_text(markdown(rows) + "\n")
    draw(
        rows, OUT / "bench-sparsity.png", f"{given.config.base_model}, {given.size.name} evaluation"
    )

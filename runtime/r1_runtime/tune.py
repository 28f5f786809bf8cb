"""`r1 tune MODEL`: measure techniques on a model and a text, and choose those that keep a budget."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from r1_runtime.config import R1Config, add_options
from r1_runtime.errors import OptionError, RuntimeFault
from r1_runtime.quality.evaluation_set import SAMPLE, EvaluationSet, read_set, text_set
from r1_runtime.quality.figures import Difference
from r1_runtime.quality.progress import progress_lines
from r1_runtime.quality.size import SIZES
from r1_runtime.quality.stored_results import FOLDER
from r1_runtime.quality.timing import QUICK_TIMING, TimingSize
from r1_runtime.tuning.budget import (
    Objective,
    QualityBudget,
    candidates,
    combined,
    fallbacks,
    parse_budget,
)
from r1_runtime.tuning.manifest import manifest
from r1_runtime.tuning.measure import MeasureInput, measure_all
from r1_runtime.tuning.measurement import Measurement
from r1_runtime.tuning.registry import all_techniques, named_techniques
from r1_runtime.tuning.table import techniques_table
from r1_runtime.tuning.technique import Technique

OK, FAILED, USAGE = 0, 1, 2
EPILOG = """\
examples:
  r1 tune bundled:smollm2 --budget quality=0.5%                     on the machine's documentation
  r1 tune /models/r1 --text my-prompts.txt --budget quality=1%      on your own text
  r1 tune model.gguf --budget quality=1%,retrieval=98% --objective bytes --out tuned.yaml

The texts: --text FILE is your own; --texts SET is a stored evaluation set, which also has questions and
passages (python -m r1_runtime.quality collect writes one); without either, the small set of the package.
Quality is the perplexity that is lost against the dense float32 model. The upper end of its 95 % interval
has to keep the budget, so more text allows more techniques.

exit codes: 0 a configuration within the budget was found, also the dense one; 1 failed; 2 used wrongly
"""


@dataclass(frozen=True, slots=True)
class TuningResult:
    """The chosen configuration.

    Attributes:
        config: with the chosen techniques.
        rows: all measurements.
        chosen: names of the techniques.
        differences: of the chosen configuration, measured as a whole; empty for the dense one.
    """

    config: R1Config
    rows: tuple[Measurement, ...]
    chosen: tuple[str, ...]
    differences: tuple[Difference, ...]


def tune(
    given: MeasureInput,
    techniques: Sequence[Technique],
    budget: QualityBudget,
    objective: Objective,
) -> TuningResult:
    """Measure each technique, combine the best of each kind, and measure the combination.

    Raises:
        RuntimeFault: the dense model does not load.
    """
    rows = tuple(measure_all(given, techniques))
    dense = given.evaluate("dense FP32", given.dense)
    for chosen in fallbacks(candidates(rows, budget, objective)):
        names = tuple(row.technique.name for row in chosen)
        if not chosen:
            break
        try:
            config = combined(given.config, chosen)
            result = given.evaluate(" + ".join(names), config)
        except RuntimeFault as error:
            given.progress(f"{' + '.join(names)}: {error}")
            continue
        differences = tuple(result.compare(dense))
        if budget.keeps(differences):
            return TuningResult(config, rows, names, differences)
        given.progress(f"{' + '.join(names)}: beyond the budget together")
    return TuningResult(given.dense, rows, (), ())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(f"command line: {message}. See r1 tune --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="r1 tune",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--budget", default="quality=0.5%", help="quality that may be lost (quality=0.5%%)")
    add("--text", type=Path, help="your own text: a file, or a folder with .txt and .md files")
    add("--texts", help="evaluation set, or sample")
    add("--size", choices=SIZES, default="quick", help="how much is evaluated (quick)")
    add(
        "--objective",
        choices=[each.value for each in Objective],
        default="time",
        help="what is made small: CPU time of decoding, or bytes read per token (time)",
    )
    names = ", ".join(each.name for each in all_techniques()).replace("%", "%%")
    add("--techniques", default="", help=f"names with commas, of: {names} (all)")
    add("--out", type=Path, help="file for the YAML; without it, YAML goes to stdout")
    add("--results", type=Path, default=FOLDER, help=f"folder of stored evaluations ({FOLDER})")
    add("--json", action="store_true", help="print JSON and nothing else")
    add_options(parser, R1Config)
    return parser


def _texts(options: argparse.Namespace) -> EvaluationSet:
    if options.text and options.texts:
        raise OptionError("command line: --text excludes --texts. Fix: one of them.")
    return text_set(options.text) if options.text else read_set(options.texts or SAMPLE)


def _report(result: TuningResult, out: Path | None) -> str:
    loss = next((each for each in result.differences if each.name == "perplexity"), None)
    together = "the dense model: no technique saves and keeps the budget"
    if loss is not None:
        together = (
            f"{' + '.join(result.chosen)}: perplexity {loss.change:+.2f} % together"
            f" ({loss.low:+.2f} to {loss.high:+.2f})"
        )
    text = [techniques_table(result.rows), "", f"Chosen: {together}."]
    text += [f"Written to {out}."] if out else ["", manifest(result.config).rstrip()]
    return "\n".join(text) + "\n"


def _to_json(result: TuningResult) -> dict[str, Any]:
    return {
        "techniques": [each.to_json() for each in result.rows],
        "chosen": list(result.chosen),
        "arguments": result.config.arguments(),
        "manifest": manifest(result.config),
        "quality": [each.to_json() for each in result.differences],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] and not given[0].startswith("-"):
        given[:1] = ["--model-path", given[0]]
    as_json = "--json" in given
    try:
        options = _parser().parse_args(given)
        names = [name.strip() for name in options.techniques.split(",") if name.strip()]
        measured = MeasureInput(
            config=R1Config.from_arguments(options),
            texts=_texts(options),
            size=SIZES[options.size],
            timing=TimingSize() if options.size in ("default", "full") else QUICK_TIMING,
            folder=options.results,
            progress=progress_lines(),
        )
        budget = parse_budget(options.budget)
        result = tune(measured, named_techniques(names), budget, Objective(options.objective))
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(manifest(result.config), encoding="utf-8")
    except (RuntimeFault, OSError) as error:
        if as_json:
            sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return FAILED if isinstance(error, OSError) else USAGE
    sys.stdout.write(
        json.dumps(_to_json(result)) + "\n" if as_json else _report(result, options.out)
    )
    return OK


if __name__ == "__main__":
    sys.exit(main())

"""`python -m r1_runtime.quality`: collect evaluation texts, and evaluate a configuration."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from r1_runtime.config import R1Config, add_options
from r1_runtime.errors import RuntimeFault
from r1_runtime.quality.collection.collect import collect
from r1_runtime.quality.configuration import load_configuration
from r1_runtime.quality.evaluation import evaluate
from r1_runtime.quality.evaluation_set import read_set, text_set
from r1_runtime.quality.progress import progress_lines
from r1_runtime.quality.report import quality_table
from r1_runtime.quality.result import read_result
from r1_runtime.quality.size import SIZES

OK, FAILED, USAGE = 0, 1, 2
TEXTS = "out/quality/texts.json"
EPILOG = """\
examples:
  python -m r1_runtime.quality collect --out out/quality/texts.json
  python -m r1_runtime.quality evaluate --model-path bundled:smollm2 --dtype float32 --out dense.json
  python -m r1_runtime.quality evaluate --model-path bundled:smollm2 --quantization int4 --baseline dense.json

exit codes: 0 done, 1 failed, 2 used wrongly
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m r1_runtime.quality",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    making = commands.add_parser(
        "collect", help="evaluation texts from this machine's documentation"
    )
    making.add_argument("--out", type=Path, default=Path(TEXTS), help=f"file to write ({TEXTS})")
    making.add_argument("--seed", type=int, default=1, help="of all choices (1)")
    evaluating = commands.add_parser(
        "evaluate", help="perplexity, retrieval, questions and agreement", allow_abbrev=False
    )
    given_texts = evaluating.add_mutually_exclusive_group()
    given_texts.add_argument("--texts", default=TEXTS, help=f"evaluation set, or sample ({TEXTS})")
    given_texts.add_argument(
        "--text", type=Path, help="your own text: a file or folder; perplexity only"
    )
    evaluating.add_argument("--size", choices=SIZES, default="default", help="how much is computed")
    evaluating.add_argument(
        "--quick", action="store_const", const="quick", dest="size", help="1 min"
    )
    evaluating.add_argument("--out", type=Path, help="file for the result, for a later --baseline")
    evaluating.add_argument("--baseline", type=Path, help="result to compare with")
    evaluating.add_argument("--json", action="store_true", help="print JSON and nothing else")
    add_options(evaluating, R1Config)
    options = parser.parse_args(arguments)
    try:
        return _collect(options) if options.command == "collect" else _evaluate(options)
    except RuntimeFault as error:
        if getattr(options, "json", False):
            sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return USAGE


def _collect(options: argparse.Namespace) -> int:
    evaluated, calibrated = collect(options.seed)
    further = options.out.with_stem(f"{options.out.stem}-calibration")
    for each, path in ((evaluated, options.out), (calibrated, further)):
        each.write(path)
        sys.stderr.write(
            f"{path}: {len(each.documents)} documents, {len(each.choices)} questions,"
            f" {len(each.clozes)} passages, identity {each.identity()}\n"
        )
    return OK


def _evaluate(options: argparse.Namespace) -> int:
    texts = text_set(options.text) if options.text else read_set(options.texts)
    config = R1Config.from_arguments(options)
    baseline = None
    if options.baseline:
        try:
            baseline = read_result(options.baseline)
        except (OSError, ValueError, KeyError) as error:
            raise RuntimeFault(
                f"--baseline {options.baseline}: not a result ({error!r})."
                " Fix: a file that --out has written."
            ) from error
    loaded = load_configuration(config, SIZES[options.size])
    for reason in loaded.reasons:
        sys.stderr.write(reason + "\n")
    result = evaluate(loaded, texts, progress_lines())
    loaded.close()
    if options.out:
        result.write(options.out)
    compared = []
    if baseline is not None:
        try:
            compared = result.compare(baseline)
        except ValueError as error:
            raise RuntimeFault(
                f"--baseline {options.baseline}: {error}. Fix: evaluate both on the same texts."
            ) from error
    if options.json:
        fields = result.to_json() | {"differences": [each.to_json() for each in compared]}
        sys.stdout.write(json.dumps(fields) + "\n")
    else:
        sys.stdout.write(quality_table(result, compared) + "\n")
    return OK


if __name__ == "__main__":
    sys.exit(main())

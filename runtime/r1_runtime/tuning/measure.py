"""Measures techniques on one model and one set of texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_runtime.config import R1Config
from r1_runtime.errors import ModelLoadError, OptionError
from r1_runtime.quality.configuration import load_configuration
from r1_runtime.quality.evaluation_set import EvaluationSet
from r1_runtime.quality.progress import Progress
from r1_runtime.quality.result import QualityResult
from r1_runtime.quality.size import EvaluationSize
from r1_runtime.quality.stored_results import evaluate_stored
from r1_runtime.quality.tasks.agreement import common_length
from r1_runtime.quality.timing import Timing, TimingSize, compare_times, time_ratio
from r1_runtime.tuning.engine_run import EngineRun
from r1_runtime.tuning.measurement import Measurement
from r1_runtime.tuning.technique import DENSE, Technique, Workload
from r1_runtime.tuning.workloads import prompts_for


@dataclass(frozen=True, slots=True)
class MeasureInput:
    """What techniques are measured on.

    Attributes:
        config: the model, without any technique.
        texts: evaluation set.
        size: of the evaluations.
        timing: of the comparisons of CPU time.
        folder: of stored evaluations, or None.
        progress: called with what is computed next.
    """

    config: R1Config
    texts: EvaluationSet
    size: EvaluationSize
    timing: TimingSize
    folder: Path | None
    progress: Progress

    @property
    def dense(self) -> R1Config:
        """The configuration that quality is compared with."""
        return dataclasses.replace(self.config, **DENSE)

    def evaluate(self, name: str, config: R1Config) -> QualityResult:
        """Evaluate a configuration, or read the stored result.

        Raises:
            RuntimeFault: the model does not load with this configuration.
        """
        return evaluate_stored(
            config,
            self.texts,
            self.size,
            folder=self.folder,
            progress=lambda part: self.progress(f"{name}: {part}"),
        )


def measure_all(given: MeasureInput, techniques: Sequence[Technique]) -> Iterator[Measurement]:
    """One measurement per technique, in order. A technique that the model or machine lacks is refused.

    Raises:
        RuntimeFault: the dense model does not load.
    """
    dense = given.evaluate("dense FP32", given.dense)
    for technique in techniques:
        yield measure(given, technique, dense)


def measure(
    given: MeasureInput, technique: Technique, dense: QualityResult | None = None
) -> Measurement:
    """Measure one technique against the dense result, which an exact technique does not need."""
    try:
        config = technique.applied(given.config)
        if technique.workload is not Workload.EVALUATION:
            return _measure_engine(given, technique, config)
        dense = dense or given.evaluate("dense FP32", given.dense)
        result = given.evaluate(technique.name, config)
        given.progress(f"{technique.name}: CPU time")
        timing, share = _timing(given, technique, config)
    except (OptionError, ModelLoadError) as error:
        return Measurement(technique, refused=str(error))
    read = result.bytes_per_token if share is None else share
    return Measurement(
        technique,
        tuple(result.compare(dense)),
        timing.decode,
        timing.prefill,
        read / dense.bytes_per_token,
    )


def _timing(
    given: MeasureInput, technique: Technique, config: R1Config
) -> tuple[Timing, float | None]:
    """CPU time beside the baseline, and bytes per token where the technique knows what it read."""
    # A small cache is enough, and both models are in memory.
    size = dataclasses.replace(
        given.size,
        context=given.timing.context + given.timing.decoded,
        retrieval_lengths=(),
        greedy_prompts=1,
    )
    baseline = load_configuration(technique.baseline(given.config), size)
    loaded = load_configuration(config, size)
    try:
        timing = compare_times(loaded, baseline, given.timing)
        if technique.read_share is None:
            return timing, None
        context = given.size.context
        return timing, loaded.traffic.at(context, technique.read_share(loaded))
    finally:
        loaded.close()
        baseline.close()


def _measure_engine(given: MeasureInput, technique: Technique, config: R1Config) -> Measurement:
    """An exact technique: equal greedy texts, and CPU time of the whole engine in turns."""
    work = prompts_for(technique.workload, given.timing)
    given.progress(f"{technique.name}: {technique.workload.value}")
    runs = [
        EngineRun(each, work.most_tokens) for each in (technique.baseline(given.config), config)
    ]
    try:
        prompts = work.prompts(runs[0].model.tokenizer, given.texts.documents)
        seconds: list[list[float]] = [[], []]
        outputs: list[list[tuple[int, ...]]] = [[], []]
        for turn in prompts:
            for number, run in enumerate(runs):
                taken, answers = run.answer(turn, work.count)
                seconds[number].append(taken / (len(turn) * work.count))
                outputs[number] += answers
    finally:
        for run in runs:
            run.close()
    pairs = list(zip(*outputs, strict=True))
    equal = sum(common_length(*pair) for pair in pairs) / sum(len(one) for one, _ in pairs)
    ratio = time_ratio(seconds[1], seconds[0])
    return Measurement(technique, decode=ratio, equal_texts=equal)

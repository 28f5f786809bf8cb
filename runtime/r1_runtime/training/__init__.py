"""Training of the bundled demo model: corpus, tokenizer, trainer, evaluation.

    python -m r1_runtime.training.corpus --out CORPUS      # from three Debian packages
    python -m r1_runtime.training.train --corpus CORPUS --out RUN --minutes 60 --compile
    python -m r1_runtime.training.evaluate --corpus CORPUS --model RUN
    python -m r1_runtime.training.report --out docs/demo-model RUN

The server imports nothing of this package, and the runtime image does not contain it.
"""

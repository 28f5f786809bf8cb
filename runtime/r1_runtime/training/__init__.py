"""How the bundled demo model came to be: corpus, tokenizer, trainer, evaluation.

    python -m r1_runtime.training.corpus --out CORPUS      # from three Debian packages
    python -m r1_runtime.training.train --corpus CORPUS --out RUN --minutes 60 --compile
    python -m r1_runtime.training.evaluate --corpus CORPUS --model RUN
    python -m r1_runtime.training.report --out docs/demo-model RUN

Nothing here is imported when a model is served.
"""

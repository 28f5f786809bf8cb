"""How the bundled demo model came to be: corpus, tokenizer, trainer, evaluation.

    python -m r1_runtime.training.corpus --out CORPUS      # from three Debian packages
    python -m r1_runtime.training.train --corpus CORPUS --out RUN --minutes 60
    python -m r1_runtime.training.export --run RUN --out r1_runtime/models_bundled/demo

Nothing here is imported when a model is served.
"""

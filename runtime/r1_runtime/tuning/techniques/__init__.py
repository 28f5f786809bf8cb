"""One module per kind of technique, each with a tuple `TECHNIQUES`; `tuning.registry` reads them all."""

"""One model over several processes (ranks): tensor, pipeline and expert parallelism on torch."""

"""The runtime beside llama.cpp on the same GGUF files: `python -m r1_bench.runtime`."""

"""llama.cpp's server, from the package xllamacpp."""

from __future__ import annotations

import argparse
import threading
from typing import Any


def main(path: str, threads: int, port: int, context: int, slots: int) -> None:
    """Serve until the process ends."""
    import xllamacpp

    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = context
    parameters.n_parallel = slots
    parameters.kv_unified = True  # a sequence may use the whole context
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.n_gpu_layers = 0
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.runtime.llama_server", description=__doc__
    )
    parser.add_argument("path", help="GGUF file")
    meanings = {
        "threads": "CPU threads",
        "port": "TCP port",
        "context": "tokens of all slots together",
        "slots": "sequences at once",
    }
    for name, meaning in meanings.items():
        parser.add_argument(name, type=int, help=meaning)
    given = parser.parse_args()
    main(given.path, given.threads, given.port, given.context, given.slots)

"""Writes a GGUF model with its weights decoded to float32, for comparisons with equal weights.

    python -m r1_bench.f32_gguf MODEL.gguf MODEL.f32.gguf

A quantised file makes engines differ: llama.cpp also quantises activations. Both its reader and its
writer are those of the `gguf` package, so the file does not depend on the runtime's own reader.
"""

from __future__ import annotations

import sys
from pathlib import Path


def write_f32(source: Path, target: Path) -> None:
    """Copy the metadata and all tensors of `source`, the tensors as float32."""
    from gguf import GGUFReader, GGUFWriter, dequantize

    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    written = {"general.architecture"}
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in written:
            continue
        value = 0 if name == "general.file_type" else field.contents()  # 0: all float32
        kinds = field.types
        writer.add_key_value(name, value, kinds[0], kinds[-1] if len(kinds) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write_f32(Path(sys.argv[1]), Path(sys.argv[2]))

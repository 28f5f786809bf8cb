"""Writes a GGUF model with its matrices in another format, for comparisons with equal weights.

Both the reader and the writer are those of the `gguf` package, so the file does not depend on the
runtime's own reader.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def write_as(source: Path, target: Path, form: str = "F32") -> None:
    """Copy the metadata and all tensors of `source`, quantised tensors in the format `form`."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize, quantize

    kind = GGMLQuantizationType[form]
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    left_out = {"general.architecture", "general.file_type"}
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in left_out:
            continue
        kinds = field.types
        value = field.contents()
        writer.add_key_value(name, value, kinds[0], kinds[-1] if len(kinds) > 1 else None)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if form == "F32" or tensor.tensor_type is GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, values)
        else:
            writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m r1_bench.runtime.requantise", description=__doc__
    )
    parser.add_argument("source", type=Path, help="GGUF file to read")
    parser.add_argument("target", type=Path, help="GGUF file to write")
    parser.add_argument("form", nargs="?", default="F32", help="F32, Q8_0 or Q4_0 (default: F32)")
    given = parser.parse_args()
    write_as(given.source, given.target, given.form)

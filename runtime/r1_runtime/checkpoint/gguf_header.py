"""The header of a GGUF file: metadata and the places of its tensors.

The reader of the `gguf` package makes several numpy arrays per vocabulary entry: for a vocabulary of
49,152 it takes 5 s of CPU and 156 MB. This one reads numbers directly and strings on request.

Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r1_runtime.checkpoint.block_formats import stored_bytes
from r1_runtime.checkpoint.source import Encoding
from r1_runtime.errors import ModelLoadError

_FIX_COPY = "copy the file again, and compare its size with the original."
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_FLOAT32, _STRING, _ARRAY = 6, 8, 9
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_TENSOR_TYPES = {
    0: Encoding.F32,
    1: Encoding.F16,
    30: Encoding.BF16,
    8: Encoding.Q8_0,
    2: Encoding.Q4_0,
    3: Encoding.Q4_1,
    6: Encoding.Q5_0,
    7: Encoding.Q5_1,
    10: Encoding.Q2_K,
    11: Encoding.Q3_K,
    12: Encoding.Q4_K,
    13: Encoding.Q5_K,
    14: Encoding.Q6_K,
}


@dataclass(frozen=True, slots=True)
class GgufStrings:
    """An array of strings in the file, decoded on request: a vocabulary is large."""

    buffer: memoryview
    start: int
    count: int

    def decode(self) -> list[str]:
        """The strings; bytes that are not UTF-8 become U+FFFD."""
        strings, at = [], self.start
        for _ in range(self.count):
            (size,) = _LENGTH.unpack_from(self.buffer, at)
            at += 8
            strings.append(str(self.buffer[at : at + size], "utf-8", "replace"))
            at += size
        return strings


Metadata = dict[str, "bool | int | float | str | GgufStrings | NDArray[np.generic]"]
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor in a file.

    Attributes:
        shape: row-major; a matrix is (outputs, inputs).
        offset: of its first byte in the file.
        size: bytes.
    """

    shape: tuple[int, ...]
    encoding: Encoding
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Metadata and tensors of one file, which stays mapped while this object exists."""

    path: Path
    mapped: mmap.mmap
    metadata: Metadata
    tensors: dict[str, GgufTensor]


def read_header(path: Path) -> GgufHeader:
    """Map the file and read its header.

    Raises:
        ModelLoadError: the file is missing, is no GGUF file, ends too early, or has a tensor whose
            type is not implemented.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise ModelLoadError(
            path, "no such file.", "mount or download the model there, or change --model-path."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise ModelLoadError(path, f"not readable ({error}).", _FIX_COPY) from error
    cursor = _Cursor(memoryview(mapped), path)
    if cursor.take(4) != _MAGIC:
        raise ModelLoadError(path, "not a GGUF file.", "point --model-path at a *.gguf file.")
    version = cursor.number("<I")
    if version not in _VERSIONS:
        raise ModelLoadError(
            path,
            f"GGUF version {version} is not implemented.",
            "convert the model again, as little-endian GGUF of version 3.",
        )
    tensor_count, value_count = cursor.number("<Q"), cursor.number("<Q")
    metadata: Metadata = {}
    for _ in range(value_count):
        name = cursor.text()
        metadata[name] = cursor.value(cursor.number("<I"))
    tensors = dict(_read_tensor(cursor) for _ in range(tensor_count))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ModelLoadError(path, f"general.alignment is {alignment!r}.", _FIX_COPY)
    start = -(-cursor.at // alignment) * alignment
    tensors = {name: replace(item, offset=start + item.offset) for name, item in tensors.items()}
    _check_size(path, len(mapped), tensors)
    return GgufHeader(path, mapped, metadata, tensors)


class _Cursor:
    """Reads values one after another; an end of the data is a `ModelLoadError`."""

    def __init__(self, data: memoryview, path: Path) -> None:
        self._data = data
        self.path = path
        self.at = 0

    def take(self, size: int) -> memoryview:
        if size > len(self._data) - self.at:
            raise ModelLoadError(
                self.path, f"the file ends within its header ({len(self._data)} bytes).", _FIX_COPY
            )
        self.at += size
        return self._data[self.at - size : self.at]

    def number(self, form: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def text(self) -> str:
        return str(self.take(self.number("<Q")), "utf-8", "replace")

    def value(self, kind: int) -> bool | int | float | str | GgufStrings | NDArray[np.generic]:
        if kind == _FLOAT32:
            # The shortest decimal of the float32: 1e-05, as the model's authors wrote it.
            return float(str(np.frombuffer(self.take(4), "<f4")[0]))
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise ModelLoadError(self.path, f"metadata has a value of type {kind}.", _FIX_COPY)
        kind, count = self.number("<I"), self.number("<Q")
        if kind in _SCALARS:
            dtype = np.dtype(_SCALARS[kind])
            return np.frombuffer(self.take(count * dtype.itemsize), dtype)
        if kind != _STRING:
            raise ModelLoadError(self.path, f"metadata has an array of type {kind}.", _FIX_COPY)
        start, at, end = self.at, self.at, len(self._data)
        for _ in range(count):
            # Beyond the end, `take` refuses.
            at += 8 + (_LENGTH.unpack_from(self._data, at)[0] if at + 8 <= end else end)
            if at > end:
                break
        self.take(at - start)
        return GgufStrings(self._data, start, count)


def _read_tensor(cursor: _Cursor) -> tuple[str, GgufTensor]:
    """Name of a tensor, and the tensor with its offset in the data section."""
    name, dimensions = cursor.text(), cursor.number("<I")
    path = cursor.path
    if dimensions > _MAX_DIMENSIONS:
        raise ModelLoadError(path, f"tensor {name} has {dimensions} dimensions.", _FIX_COPY)
    # GGUF has the innermost dimension first.
    shape = tuple(cursor.number("<Q") for _ in range(dimensions))[::-1]
    number, offset = cursor.number("<I"), cursor.number("<Q")
    encoding = _TENSOR_TYPES.get(number)
    if encoding is None:
        raise ModelLoadError(
            path,
            f"tensor {name} has type {_type_name(number)}, which is not implemented.",
            f"convert the model to one of {', '.join(_TENSOR_TYPES.values())}.",
        )
    try:
        size = stored_bytes(shape, encoding)
    except ValueError as error:
        raise ModelLoadError(path, f"tensor {name}: {error}.", _FIX_COPY) from error
    return name, GgufTensor(shape, encoding, offset, size)


def _type_name(number: int) -> str:
    """The name of a tensor type, where the `gguf` package knows it."""
    try:
        from gguf.constants import GGMLQuantizationType

        return str(GGMLQuantizationType(number).name)
    except (ImportError, ValueError):
        return f"number {number}"


def _check_size(path: Path, size: int, tensors: dict[str, GgufTensor]) -> None:
    needed = max((tensor.offset + tensor.size for tensor in tensors.values()), default=0)
    if needed > size:
        raise ModelLoadError(
            path, f"the file has {size} bytes, but its tensors need {needed}: truncated.", _FIX_COPY
        )

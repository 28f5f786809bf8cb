"""The files of a safetensors checkpoint, mapped: names, types and places of their tensors.

A file is an 8-byte length, a JSON header of that length, and one buffer. No value is read here.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r1_runtime.errors import ModelLoadError
from r1_runtime.json_files import read_json_object

COPY_AGAIN = "copy the model again."
INDEX_NAME = "model.safetensors.index.json"
_LONGEST_HEADER = 100_000_000  # the format's own limit
_OTHER = ("*.bin", "*.pt", "*.pth")  # pickles, which could run any code
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8}
_BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16}
_BITS |= {"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}


class MappedFile:
    """A file of which pages are read when they are used.

    Raises:
        OSError, ValueError: the file cannot be mapped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._mapping, np.uint8)

    def release(self, data: NDArray[np.uint8]) -> bool:
        """Let the kernel drop the pages of `data`; False where it is not a part of this file."""
        begin = data.ctypes.data - self.bytes.ctypes.data
        if not 0 <= begin < self.bytes.size:
            return False
        page = begin // mmap.PAGESIZE * mmap.PAGESIZE
        self._mapping.madvise(mmap.MADV_DONTNEED, page, begin + data.nbytes - page)
        return True


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor by its published name, in its file.

    Attributes:
        dtype: the format's name of the type, such as BF16.
        begin: first byte in the file.
        end: byte after the last.
    """

    name: str
    file: MappedFile
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def data(self) -> NDArray[np.uint8]:
        return self.file.bytes[self.begin : self.end]


def read_tensors(folder: Path) -> dict[str, FileTensor]:
    """All tensors of the folder's files by published name.

    Raises:
        ModelLoadError: a file is missing or damaged.
    """
    tensors: dict[str, FileTensor] = {}
    for path in weight_files(folder):
        try:
            tensors |= _file_tensors(MappedFile(path))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelLoadError(
                path, f"not a readable safetensors file ({error}).", COPY_AGAIN
            ) from error
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """The files with weights: those of the shard index, model.safetensors, or all."""
    index = folder / INDEX_NAME
    if index.is_file():
        return _indexed_files(index)
    single = folder / "model.safetensors"
    files = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        other = next((file.name for pattern in _OTHER for file in folder.glob(pattern)), None)
        if other is not None:
            raise ModelLoadError(
                folder,
                f"no *.safetensors file, and {other} has another format.",
                "convert the weights: load them with transformers and call"
                " save_pretrained(FOLDER), which writes safetensors.",
            )
        raise ModelLoadError(
            folder, "no *.safetensors file.", "put the weights beside config.json."
        )
    return files


def _indexed_files(index: Path) -> list[Path]:
    try:
        names = set(read_json_object(index)["weight_map"].values())
        if any(Path(name).name != name for name in names):
            raise ValueError
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelLoadError(index, "not a readable shard index.", COPY_AGAIN) from error
    files = [index.parent / name for name in sorted(names)]
    for path in files:
        if not path.is_file():
            raise ModelLoadError(path, "listed in the shard index but missing.", COPY_AGAIN)
    return files


def _file_tensors(file: MappedFile) -> dict[str, FileTensor]:
    size = file.bytes.size
    length = int.from_bytes(file.bytes[:8].tobytes(), "little") if size >= 8 else 0
    if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    header = json.loads(file.bytes[8 : 8 + length].tobytes())
    if not isinstance(header, dict):
        raise TypeError("the header is not a JSON object")
    header.pop("__metadata__", None)
    return {name: _tensor(name, file, entry, 8 + length) for name, entry in header.items()}


def _tensor(name: str, file: MappedFile, entry: Mapping[str, Any], start: int) -> FileTensor:
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    begin, end = (start + offset for offset in entry["data_offsets"])
    if not all(isinstance(size, int) and size >= 0 for size in (*shape, begin, end)):
        raise ValueError(f"{name} has a shape or an offset that is no whole number")
    if not start <= begin <= end <= file.bytes.size:
        raise ValueError(f"{name} ends at byte {end} of {file.bytes.size}")
    if dtype not in _BITS:
        raise ValueError(f"{name} has the unknown type {dtype}")
    expected = math.prod(shape) * _BITS[dtype] // 8
    if end - begin != expected:
        raise ValueError(f"{name} has {end - begin} bytes, {dtype} {list(shape)} needs {expected}")
    return FileTensor(name, file, dtype, shape, begin, end)

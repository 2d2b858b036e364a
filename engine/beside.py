"""Models of more bytes than one file can hold: `x.onnx`, and beside it `x.onnx.data` with its large weights.

protobuf ends at 2 GiB. A path to the .onnx names both files; what there is to know about the second one stands here.
"""

import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import onnx

T = onnx.TensorProto
LARGEST_BYTES = 2**31 - (1 << 20)  #: of weights in one file; the rest is for the graph
SMALLEST_BYTES = 1 << 14  #: of a weight that lies outside: smaller ones may be shapes, which inference must see
ALIGNED_BYTES = 1 << 12  #: weights begin at pages, so that a runtime can map them
MARK_LETTERS = 16  #: of a digest, in the name of published weights
BITS: dict[int, int] = {
    **dict.fromkeys((T.BOOL, T.INT8, T.UINT8, T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ), 8),
    **dict.fromkeys((T.FLOAT8E8M0,), 8),
    **dict.fromkeys((T.INT16, T.UINT16, T.FLOAT16, T.BFLOAT16), 16),
    **dict.fromkeys((T.INT32, T.UINT32, T.FLOAT), 32),
    **dict.fromkeys((T.INT64, T.UINT64, T.DOUBLE, T.COMPLEX64), 64),
    **dict.fromkeys((T.COMPLEX128,), 128),
    **dict.fromkeys((T.INT4, T.UINT4, T.FLOAT4E2M1), 4),
    **dict.fromkeys((T.INT2, T.UINT2), 2),
}


def data_of(path: Path) -> Path:
    """Where the weights of a model lie that are not in its file; there is no such file for most models."""
    return path.with_name(f"{path.name}.data")


def is_apart(path: Path) -> bool:
    """Whether the model has weights beside its file."""
    return data_of(path).exists()


def companions(path: Path) -> Mapping[str, Path]:
    """The data file by its location, as admission wants it."""
    return {data_of(path).name: data_of(path)} if is_apart(path) else {}


def size_bytes(path: Path) -> int:
    """Bytes of the model, its weights included."""
    return path.stat().st_size + (data_of(path).stat().st_size if is_apart(path) else 0)


def remove(path: Path) -> None:
    """Remove a model; one that is gone is no error."""
    path.unlink(missing_ok=True)
    data_of(path).unlink(missing_ok=True)


def publish(source: Path, target: Path, sha256: str) -> None:
    """Copy a model to where users get it from.

    The name of its weights there holds a part of the digest, so that the weights of two models that a user puts into
    one folder are never taken for each other.
    """
    if not is_apart(source):
        shutil.copyfile(source, target)
        return
    model = onnx.ModelProto.FromString(source.read_bytes())
    data = target.with_name(f"{target.name}.{sha256[:MARK_LETTERS]}.data")
    shutil.copyfile(data_of(source), data)
    relocate(model, data.name)
    target.write_bytes(model.SerializeToString())


def share(source: Path, path: Path, model: onnx.ModelProto) -> None:
    """Give another graph, which is about to be saved at `path`, the weights that lie beside `source`."""
    if is_apart(source):
        relocate(model, data_of(path).name)
        try:
            os.link(data_of(source), data_of(path))
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(data_of(source), data_of(path))


def relocate(model: onnx.ModelProto, location: str) -> None:
    """Name another file as the one that holds the weights."""
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location


def take_in(model: onnx.ModelProto, path: Path) -> None:
    """Read the weights that lie beside the file into the model."""
    with data_of(path).open("rb") as file:
        for tensor in model.graph.initializer:
            if tensor.data_location == T.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                file.seek(int(entries["offset"]))
                tensor.raw_data = file.read(int(entries["length"]))
                del tensor.external_data[:]
                tensor.ClearField("data_location")


def weights_bytes(model: onnx.ModelProto) -> int:
    """Bytes of the initializers of the main graph that are stored as bytes, as nearly all are."""
    return sum(stored_bytes(tensor) for tensor in model.graph.initializer)


def stored_bytes(tensor: onnx.TensorProto) -> int:
    """Length of the tensor's raw data, of which protobuf would make a copy to tell it; 0 where it has none."""
    return math.prod(tensor.dims) * BITS.get(tensor.data_type, 0) // 8 if tensor.HasField("raw_data") else 0


def large(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Initializers of the main graph that may lie outside of the file, by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer if stored_bytes(tensor) >= SMALLEST_BYTES}


def stub(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The same tensor without its values."""
    return onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


@dataclass
class Data:
    """The data file while it is written."""

    file: BinaryIO
    location: str
    size: int = field(default=0)

    def add(self, tensor: onnx.TensorProto, content: bytes | memoryview) -> onnx.TensorProto:
        """Write the values down; the tensor that says where they lie."""
        padding = -self.size % ALIGNED_BYTES
        self.file.write(bytes(padding))
        self.file.write(content)
        outside = stub(tensor)
        outside.data_location = T.EXTERNAL
        entries = {"location": self.location, "offset": self.size + padding, "length": len(content)}
        for key, value in entries.items():
            outside.external_data.add(key=key, value=str(value))
        self.size += padding + len(content)
        return outside


@contextmanager
def writing(path: Path) -> Iterator[Data]:
    """The data file of the model at `path`, written anew."""
    with data_of(path).open("wb") as file:
        yield Data(file, data_of(path).name)


def written(tensors: Iterable[onnx.TensorProto], path: Path) -> list[onnx.TensorProto]:
    """Write these weights beside the model at `path`; what the model holds in their place."""
    with writing(path) as data:
        return [data.add(tensor, tensor.raw_data) for tensor in tensors]

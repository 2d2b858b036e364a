"""Tensors that lie about themselves, and tensors whose data lies elsewhere.

A tensor's shape must account for exactly the bytes it brings. Data outside of the model file may only come from a file
of the same bundle, named by a plain relative path: never from the disk of the machine that runs this.
"""

import itertools
import math
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import onnx

from engine.beside import BITS
from engine.errors import ModelRejected
from engine.graph import all_graphs, all_nodes
from engine.words import shown

T = onnx.TensorProto
EXTERNAL_KEYS = frozenset({"location", "offset", "length", "checksum"})
LONGEST_LOCATION = 255
MOST_ELEMENTS = 2**40
TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
REMEDY = "Export the model again; the file seems damaged."
BUNDLE = "Upload a zip of the .onnx file and its data files, or save the model as one file with onnx.save_model."


def check_tensors(model: onnx.ModelProto, companions: Mapping[str, Path]) -> None:
    """Check each tensor of the model, wherever it stands."""
    for tensor in all_tensors(model):
        size = declared_bytes(tensor)
        if is_external(tensor):
            _check_external(tensor, size, companions)
        else:
            _check_inline(tensor, size)


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Initializers and tensors in attributes, subgraphs and functions included; of sparse tensors the parts."""
    for graph in all_graphs(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from _parts(sparse)
    for node in all_nodes(model):
        for attribute in node.attribute:
            yield from _tensors(attribute)
    for default in itertools.chain.from_iterable(function.attribute_proto for function in model.functions):
        yield from _tensors(default)


def _tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    for entry in itertools.chain(sparse, attribute.sparse_tensors):
        yield from _parts(entry)


def _parts(sparse: onnx.SparseTensorProto) -> Iterator[onnx.TensorProto]:
    if any(size < 0 for size in sparse.dims) or math.prod(sparse.dims) > 1 << 28:
        raise ModelRejected("tensor_shape", f"Sparse tensor {shown(sparse.values.name)} is too large.", REMEDY)
    yield from (sparse.values, sparse.indices)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's data lies outside of the model file, or claims to."""
    return tensor.data_location == T.EXTERNAL or bool(tensor.external_data)


def declared_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that shape and type call for; text has no fixed size, so its elements are counted."""
    if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > MOST_ELEMENTS:
        raise _lies(tensor, f"declares the shape {list(tensor.dims)[:8]}")
    if tensor.data_type not in BITS and tensor.data_type != T.STRING:
        raise _lies(tensor, f"has the unknown element type {tensor.data_type}")
    return -(-math.prod(tensor.dims) * BITS.get(tensor.data_type, 8) // 8)


def _check_inline(tensor: onnx.TensorProto, size: int) -> None:
    if tensor.HasField("raw_data"):
        if tensor.data_type == T.STRING or len(tensor.raw_data) != size:
            raise _lies(tensor, f"declares {size} bytes but brings {len(tensor.raw_data)}")
        return
    counts = [len(getattr(tensor, field)) for field in TYPED_FIELDS]
    elements = math.prod(tensor.dims)
    if sum(counts) not in _typed_counts(tensor.data_type, elements):
        raise _lies(tensor, f"declares {elements} elements but brings {sum(counts)}")


def _typed_counts(data_type: int, elements: int) -> set[int]:
    """How many entries a typed field may have for so many elements; small types share an entry."""
    if data_type in (T.COMPLEX64, T.COMPLEX128):
        return {2 * elements}
    bits = BITS.get(data_type, 8)
    return {elements} if bits >= 8 else {elements, -(-elements * bits // 8)}


def _lies(tensor: onnx.TensorProto, what: str) -> ModelRejected:
    return ModelRejected("tensor_shape", f"Tensor {shown(tensor.name)} {what}.", REMEDY)


# ── data outside of the model file ───────────────────────────────────────────────────────────────────────────────────


def _check_external(tensor: onnx.TensorProto, size: int, companions: Mapping[str, Path]) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data) or not EXTERNAL_KEYS.issuperset(entries):
        odd = next(iter(set(entries) - EXTERNAL_KEYS), "a key twice")
        raise ModelRejected("external_data_keys", f"Tensor {shown(tensor.name)} has the entry {shown(odd)}.", BUNDLE)
    if tensor.data_type == T.STRING:
        raise _lies(tensor, "keeps text outside of the model")
    location = entries.get("location", "")
    fault = location_fault(location)
    if fault is not None:
        detail = f"Tensor {shown(tensor.name)} reads {shown(location)}, which {fault}."
        raise ModelRejected("external_data_path", detail, BUNDLE)
    if location not in companions:
        detail = f"Tensor {shown(tensor.name)} keeps its data in {shown(location)}, which was not uploaded."
        raise ModelRejected("external_data_missing", detail, BUNDLE)
    offset, length = external_range(tensor)
    status = companions[location].lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        detail = f"Tensor {shown(tensor.name)} reads {shown(location)}, which is a link or no plain file."
        raise ModelRejected("external_data_path", detail, BUNDLE)
    if length not in (None, size) or offset + size > status.st_size:
        detail = (
            f"Tensor {shown(tensor.name)} needs {size} bytes of {shown(location)} from {offset}; they are not there."
        )
        raise ModelRejected("external_data_range", detail, BUNDLE)


def location_fault(location: str) -> str | None:
    """Why a location is not the plain relative path of a companion; None where it is."""
    path = PurePosixPath(location)
    if not location or location == "." or len(location.encode()) > LONGEST_LOCATION:
        return "is empty or too long"
    if path.is_absolute() or location[1:2] == ":" or "\\" in location:
        return "is not a relative path"
    if ".." in path.parts:
        return "leaves the bundle"
    if unicodedata.normalize("NFC", location) != location or not location.isprintable():
        return "has odd characters"
    return None


def external_range(tensor: onnx.TensorProto) -> tuple[int, int | None]:
    """Offset of a tensor's data in its file, and its length where that is written down."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    numbers = [entries.get("offset", "0"), entries.get("length", "0")]
    if not all(number.isascii() and number.isdecimal() and len(number) < 20 for number in numbers):
        detail = f"Tensor {shown(tensor.name)} has the offset {shown(numbers[0])} and the length {shown(numbers[1])}."
        raise ModelRejected("external_data_range", detail, BUNDLE)
    return int(numbers[0]), int(numbers[1]) if "length" in entries else None

"""A bounded walk over the protobuf encoding of a model, in plain Python, before a parser builds anything from it.

Each message's fields are framed as (key, value). Only fields that hold messages are entered, as ONNX's own descriptors
name them, and only text is read; weights are stepped over, so a large model costs no more than a small one. The walk
keeps its own stack, thus no depth of nesting can exhaust Python's.
"""

import mmap
from collections import Counter
from pathlib import Path

import onnx

from engine.errors import ModelRejected
from engine.graph import LARGEST_BYTES, SMALLER

DEEPEST = 64
DEEPEST_GRAPH = 16
MOST_FIELDS = 20_000_000
MOST_PENDING = 3_000_000
MOST: dict[str, int] = {
    "GraphProto": 20_000,
    "NodeProto": 200_000,
    "AttributeProto": 2_000_000,
    "TensorProto": 300_000,
    "SparseTensorProto": 10_000,
    "FunctionProto": 1_000,
    "ValueInfoProto": 400_000,
    "OperatorSetIdProto": 10_000,
    "StringStringEntryProto": 500_000,
}
REMEDY = "Upload the .onnx file as it was exported, whole."


TEXT = "text"


def _entered_fields() -> dict[str, dict[int, str]]:
    """For each type of message the fields that hold messages, and of which type, or text."""
    kinds = list(onnx.ModelProto.DESCRIPTOR.file.message_types_by_name.values())
    for kind in kinds:
        kinds.extend(kind.nested_types)  # the list grows while it is read: nested types of nested types
    return {
        kind.name: {
            field.number: field.message_type.name if field.message_type else TEXT
            for field in kind.fields
            if field.message_type or field.type == field.TYPE_STRING
        }
        for kind in kinds
    }


ENTERED_FIELDS = _entered_fields()


def check_wire(path: Path) -> Counter[str]:
    """Walk the file; how many messages of each type it holds. Raises ModelRejected where a bound is crossed."""
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise ModelRejected("model_too_large", "The model is one file of more than 2 GiB.", SMALLER)
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
        counts = _walk(data, size)
    if not counts["GraphProto"] or not counts["NodeProto"] + counts["TensorProto"] + counts["ValueInfoProto"]:
        raise ModelRejected("model_not_onnx", "The file holds no graph, so it is not an ONNX model.", REMEDY)
    return counts


def _walk(data: mmap.mmap, size: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    fields = 0
    stack = [(0, size, "ModelProto", 0, 0)]
    while stack:
        start, end, kind, depth, graphs = stack.pop()
        _count(counts, kind, depth, graphs)
        entered = ENTERED_FIELDS[kind]
        while start < end:
            fields += 1
            number, body, following = _field(data, start, end)
            inner = entered.get(number) if body else None
            if inner is TEXT:
                _check_text(data[body:following], start)
            elif inner is not None:
                stack.append((body, following, inner, depth + 1, graphs + (inner == "GraphProto")))
            if fields > MOST_FIELDS or len(stack) > MOST_PENDING:
                raise ModelRejected("model_too_complex", f"The model has more than {MOST_FIELDS} fields.", REMEDY)
            start = following
    return counts


def _count(counts: Counter[str], kind: str, depth: int, graphs: int) -> None:
    counts[kind] += 1
    most = MOST.get(kind)
    if most is not None and counts[kind] > most:
        detail = f"The model has more than {most} parts of the type {kind}."
        raise ModelRejected("model_too_complex", detail, "Upload a smaller model.")
    if depth > DEEPEST or graphs > DEEPEST_GRAPH:
        detail = (
            f"The model nests graphs or types more than {DEEPEST_GRAPH if graphs > DEEPEST_GRAPH else DEEPEST} deep."
        )
        raise ModelRejected("model_nested_too_deep", detail, "Export the model without such deep control flow.")


def _field(data: mmap.mmap, start: int, end: int) -> tuple[int, int, int]:
    """Number of the field at `start`, where its bytes begin (0 for a plain number), and where the next field begins."""
    key, at = _varint(data, start, end)
    number, wire = key >> 3, key & 7
    if wire == 2:
        length, body = _varint(data, at, end)
        following = body + length
    elif wire == 0:
        body, following = 0, _varint(data, at, end)[1]
    elif wire in (1, 5):
        body, following = 0, at + (8 if wire == 1 else 4)
    else:
        raise _broken(start)
    if following > end or not number:
        raise _broken(start)
    return number, body, following


def _check_text(text: bytes, at: int) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise _broken(at) from error


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _broken(at)


def _broken(at: int) -> ModelRejected:
    detail = f"The file is not an ONNX model, or it was cut off: its encoding breaks near byte {at}."
    return ModelRejected("model_not_onnx", detail, REMEDY)

"""The ONNX graph, our only representation of a model: read, written, walked and edited here.

A model is one file of at most 2 GiB (what protobuf can hold), or two where its weights are more (`engine.beside`).
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, EncodeError, Message
from onnx import numpy_helper

from engine import beside
from engine.errors import ModelRejected, StepFailed

LARGEST_BYTES = 2**31 - 1
SMALLER = (
    "Save it with its weights outside, as by onnx.save_model(model, path, save_as_external_data=True), and upload a "
    "zip of both files."
)
NO_MEMORY = "alloc failed"  #: what protobuf says of a file that is whole but does not fit into memory
ONNX_DOMAINS = ("", "ai.onnx")
NO_INPUT = ""

Shape = tuple[int | str | None, ...]


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def load(path: Path) -> onnx.ModelProto:
    """Read a model, and the weights that Strop put beside it. No other file is ever touched."""
    model = load_structure(path)
    if beside.is_apart(path):
        beside.take_in(model, path)
    return model


def load_structure(path: Path) -> onnx.ModelProto:
    """Read a model file alone: weights that lie beside it have a name, a type and a shape, but no values."""
    if path.stat().st_size > LARGEST_BYTES:
        raise ModelRejected("model_too_large", "The model is one file of more than 2 GiB.", SMALLER)
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        if NO_MEMORY in str(error):
            raise MemoryError from error
        detail = "The file is not an ONNX model, or it was cut off: its protobuf encoding is broken."
        raise ModelRejected("model_not_onnx", detail, "Upload the .onnx file as it was exported, whole.") from error


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model: in one piece, or with its large weights beside it where one file cannot hold them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.remove(path)
    if beside.weights_bytes(model) <= beside.LARGEST_BYTES:
        return write_structure(model, path)
    outside = beside.large(model)
    structure = copied(model, without=outside)
    structure.graph.initializer.extend(beside.written(outside.values(), path))
    return write_structure(structure, path)


def save_structure(model: onnx.ModelProto, path: Path, source: Path) -> Path:
    """Write a model of which `load_structure` read the weights' names from `source`; they are shared with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.share(source, path, model)
    return write_structure(model, path)


def write_structure(model: onnx.ModelProto, path: Path) -> Path:
    """Write the file of a model alone; where weights lie beside it, they were written before."""
    try:
        content = model.SerializeToString()
    except (EncodeError, ValueError) as error:  # protobuf does not say which of the two it was
        if beside.weights_bytes(model) < LARGEST_BYTES // 2:
            raise MemoryError from error
        detail = f"{path.name} would hold more than 2 GiB beside its weights, more than one ONNX file can hold."
        raise StepFailed("model_too_large", detail, "Use a smaller model.") from error
    path.write_bytes(content)
    return path


def copied(model: onnx.ModelProto, without: Container[str] = ()) -> onnx.ModelProto:
    """A copy to operate on; weights that the operation replaces are left out, since they are most of a model."""
    copy = onnx.ModelProto()
    for descriptor, value in model.ListFields():
        if descriptor.name != "graph":
            _put(copy, descriptor.name, value)
    for descriptor, value in model.graph.ListFields():
        if descriptor.name != "initializer":
            _put(copy.graph, descriptor.name, value)
    copy.graph.initializer.extend(weight for weight in model.graph.initializer if weight.name not in without)
    return copy


def on_structure(model: onnx.ModelProto, change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> onnx.ModelProto:
    """What a change of the graph makes of a model, without its large weights where protobuf cannot hand them over."""
    if beside.weights_bytes(model) <= beside.LARGEST_BYTES:
        return change(model)
    outside = beside.large(model)
    structure = copied(model, without=outside)
    structure.graph.initializer.extend(map(beside.stub, outside.values()))
    changed = change(structure)
    for weight in changed.graph.initializer:
        if weight.name in outside:
            weight.CopyFrom(outside[weight.name])
    return changed


def _put(message: Message, name: str, value: Any) -> None:
    if isinstance(value, int | str):
        setattr(message, name, value)
    else:
        getattr(message, name).MergeFrom(value)


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operators; 1 where the model does not say."""
    return max((entry.version for entry in model.opset_import if entry.domain in ONNX_DOMAINS), default=1)


def is_standard(node: onnx.NodeProto, *operators: str) -> bool:
    """Whether the node is one of these operators of the ONNX standard."""
    return node.domain in ONNX_DOMAINS and node.op_type in operators


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs inside a node: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all graphs inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes of the graph and its subgraphs, and of the model's functions."""
    for graph in all_graphs(model.graph):
        yield from graph.node
    for function in model.functions:
        for node in function.node:
            yield node
            for inner in subgraphs(node):
                for graph in all_graphs(inner):
                    yield from graph.node


def operators(model: onnx.ModelProto) -> Counter[str]:
    """Number of nodes by operator; those outside of the standard with their domain."""
    return Counter(map(operator_of, all_nodes(model)))


def operator_of(node: onnx.NodeProto) -> str:
    """Its operator, with the domain where that is not the standard's."""
    return node.op_type if node.domain in ONNX_DOMAINS else f"{node.domain}.{node.op_type}"


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Value of an attribute, or what the standard says when it is left out."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def constant_of(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of a Constant node, whichever way it is written; None for another node or a sparse one."""
    if not is_standard(node, "Constant") or not node.attribute:
        return None
    entry = node.attribute[0]
    if entry.name == "value":
        return entry.t
    value = onnx.helper.get_attribute_value(entry)
    dtype = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if entry.name not in dtype:
        return None
    return numpy_helper.from_array(np.asarray(value, dtype[entry.name]))


def outer_names(graph: onnx.GraphProto) -> set[str]:
    """Names that subgraphs read from this graph, or may."""
    return {
        name
        for node in graph.node
        for inner in subgraphs(node)
        for nested in all_graphs(inner)
        for name in itertools.chain(*(child.input for child in nested.node), (value.name for value in nested.output))
    }


def weights_of(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Initializers of the main graph by name."""
    return {weight.name: weight for weight in model.graph.initializer}


def finite_floats(tensor: onnx.TensorProto | None) -> np.ndarray | None:
    """Values of a float32 constant; None where it is none, is empty or is not finite."""
    if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
        return None
    values = numpy_helper.to_array(tensor)
    return values if values.size and np.isfinite(values).all() else None


@dataclass(frozen=True)
class Wiring:
    """Who makes and who reads each tensor of the main graph."""

    producers: dict[str, onnx.NodeProto]
    readers: dict[str, list[onnx.NodeProto]]
    uses: Counter[str]  #: by nodes, by graphs inside of nodes, and as outputs of the model

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> "Wiring":
        producers = {name: node for node in graph.node for name in node.output}
        readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                readers[name].append(node)
        uses = Counter({name: len(nodes) for name, nodes in readers.items()})
        uses.update(value.name for value in graph.output)
        uses.update(outer_names(graph))
        return cls(producers, readers, uses)


@dataclass(frozen=True)
class TensorType:
    element: int  #: onnx.TensorProto.DataType
    shape: Shape | None  #: None where even the rank is unknown


def tensor_types(graph: onnx.GraphProto) -> dict[str, TensorType]:
    """Element type and shape of each tensor of the graph that has them written down."""
    values = itertools.chain(graph.input, graph.output, graph.value_info)
    types = {value.name: _type(value) for value in values if value.type.HasField("tensor_type")}
    types |= {weight.name: TensorType(weight.data_type, tuple(weight.dims)) for weight in graph.initializer}
    return types


def _type(value: onnx.ValueInfoProto) -> TensorType:
    declared = value.type.tensor_type
    if not declared.HasField("shape"):
        return TensorType(declared.elem_type, None)
    sizes = (size.dim_value if size.HasField("dim_value") else size.dim_param or None for size in declared.shape.dim)
    return TensorType(declared.elem_type, tuple(sizes))


# ── editing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Names:
    """Names for new tensors and nodes that nothing in the model has yet."""

    taken: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "Names":
        taken: set[str] = set()
        for graph in all_graphs(model.graph):
            taken.update(weight.name for weight in graph.initializer)
            taken.update(value.name for value in itertools.chain(graph.input, graph.output, graph.value_info))
            for node in graph.node:
                taken.update(node.input, node.output, [node.name])
        return cls(taken)

    def fresh(self, wish: str) -> str:
        """The name itself, or with a number behind it."""
        candidates = itertools.chain([wish], (f"{wish}_{number}" for number in itertools.count(1)))
        name = next(candidate for candidate in candidates if candidate not in self.taken)
        self.taken.add(name)
        return name


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its local functions written out; itself where it has none."""
    return on_structure(model, onnx.inliner.inline_local_functions) if model.functions else model


def freeze_weights(model: onnx.ModelProto) -> int:
    """Make constants of initializers that old exporters also list as inputs; how many there were."""
    weights = {weight.name for weight in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    removed = len(model.graph.input) - len(kept)
    if removed:
        replace_list(model.graph.input, kept)
    return removed


def lift_constants(model: onnx.ModelProto) -> None:
    """Make initializers of the Constant nodes of the main graph."""
    kept = []
    for node in model.graph.node:
        tensor = constant_of(node)
        if tensor is None:
            kept.append(node)
            continue
        lifted = model.graph.initializer.add()
        lifted.CopyFrom(tensor)
        lifted.name = node.output[0]
    replace_list(model.graph.node, kept)


def give_out(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Make these tensors the outputs of the model; a runtime infers their types."""
    values = [onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names)]
    replace_list(model.graph.output, values)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove nodes and initializers of the main graph that nothing reads any more."""
    graph = model.graph
    needed = {value.name for value in graph.output} | outer_names(graph)
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    if len(kept) < len(graph.node):
        replace_list(graph.node, kept[::-1])
    needed.update(value.name for value in graph.input)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]


def replace_list(entries: Any, items: Iterable[Any]) -> None:
    """Give a repeated field new items; they may be some of the old ones."""
    kept = list(items)
    del entries[:]
    entries.extend(kept)

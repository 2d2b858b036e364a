"""A session of which some products are computed here, and all else by ONNX Runtime.

    the file ── fused by ONNX Runtime ──┬── pieces between those products, each a session of its own
                                        └── products whose sums may saturate, in NumPy

The runtime fuses first, since that decides what is computed in 8 bits: it makes QLinearConv of QuantizeLinear, Conv and
DequantizeLinear, and on x86 unsigned activations of signed ones (QDQS8ToU8Transformer). Two fusions are left out, which
would hide a matrix product in a node with the quantization of its input.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from engine.graph import all_graphs, load, outer_names, save, subgraphs, weights_of
from engine.measure.emulation.products import KINDS, Product
from engine.measure.session import open_session, session_options

HIDDEN = "DynamicQuantizeMatMulFusion;MatMulIntegerToFloatFusion"
RECURRENT = {"DynamicQuantizeLSTM"}
WITHOUT = "optimization.disable_specified_optimizers"
Level = onnxruntime.GraphOptimizationLevel
Feeds = dict[str, np.ndarray]


class EmulatedSession:
    """Stands in for an ONNX Runtime session; `saturates` says whose sums to compute."""

    def __init__(self, model: Path, folder: Path, *, threads: int, saturates: bool) -> None:
        fused = folder / "fused.onnx"
        options = session_options(threads)
        options.graph_optimization_level = Level.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(fused)
        options.add_session_config_entry(WITHOUT, HIDDEN)
        self.get_outputs = open_session(model, "cpu", options).get_outputs
        self._model = load(fused)
        self._weights = weights_of(self._model)
        self._folder, self._threads, self._saturates = folder, threads, saturates
        self._steps = list(self._cut())

    @property
    def is_complete(self) -> bool:
        """Whether all that may saturate is a product of the main graph; recurrent layers in 8 bits are not."""
        inside = (node for graph in _inner(self._model.graph) for node in graph.node)
        return not any(node.op_type in RECURRENT for node in self._model.graph.node) and not any(
            node.op_type in KINDS or node.op_type in RECURRENT for node in inside
        )

    @property
    def at_risk(self) -> int:
        """How many products have pairs that may saturate."""
        return sum(isinstance(step, Product) for step in self._steps)

    def run(self, names: list[str], feeds: Feeds) -> list[np.ndarray]:
        """The outputs of these names."""
        values = feeds | {name: self._array(name) for name in names if name in self._weights}
        for step in self._steps:
            if isinstance(step, Product):
                constants = {name: self._array(name) for name in step.node.input if name in self._weights}
                values[step.node.output[0]] = step.run(constants | values)
            else:
                values |= step.run(values)
        return [values[name] for name in names]

    def _array(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self._weights[name])

    # ── pieces ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _cut(self) -> Iterator["Product | _Piece"]:
        """The products at risk, and what lies between them, in the order of the graph."""
        steps = [self._at_risk(node) or node for node in self._model.graph.node]
        read_by = [_read(step.node if isinstance(step, Product) else step) for step in steps]
        given = {value.name for value in self._model.graph.output}
        for is_product, members in groupby(enumerate(steps), lambda entry: isinstance(entry[1], Product)):
            indices, found = zip(*members, strict=True)
            if is_product:
                yield from found
                continue
            later = given.union(*read_by[indices[-1] + 1 :])
            yield self._piece(list(found), set().union(*read_by[indices[0] : indices[-1] + 1]), later)

    def _piece(self, nodes: list[onnx.NodeProto], read: set[str], later: set[str]) -> "_Piece":
        made = {name for node in nodes for name in node.output}
        model = onnx.ModelProto(ir_version=self._model.ir_version, opset_import=self._model.opset_import)
        model.graph.name = "piece"
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(self._weights[name] for name in sorted(read & self._weights.keys()))
        outputs = sorted(made & later)
        model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
        path = self._folder / f"piece-{len(list(self._folder.iterdir()))}.onnx"
        return _Piece(model, sorted(read - made - self._weights.keys() - {""}), outputs, path, self._threads)

    def _at_risk(self, node: onnx.NodeProto) -> Product | None:
        """The product that the node is, where its sums may saturate."""
        kind = KINDS.get(node.op_type)
        if kind is None or len(node.input) <= max(kind.WEIGHT, kind.ZERO):
            return None
        weight, zero_point = (self._weights.get(node.input[place]) for place in (kind.WEIGHT, kind.ZERO))
        if weight is None or weight.data_type != onnx.TensorProto.INT8 or not kind.takes(len(weight.dims)):
            return None
        if zero_point is not None and zero_point.data_type != onnx.TensorProto.UINT8:
            return None
        product = kind(node, numpy_helper.to_array(weight), self._saturates)
        return product if product.is_at_risk else None


@dataclass
class _Piece:
    """Nodes between products; the types of what they read are known once it is there."""

    model: onnx.ModelProto
    inputs: list[str]
    outputs: list[str]
    path: Path
    threads: int
    session: onnxruntime.InferenceSession | None = field(default=None, init=False)

    def run(self, values: Feeds) -> Feeds:
        feeds = {name: values[name] for name in self.inputs if name in values}
        if not self.outputs:
            return {}
        if self.session is None:
            self.session = self._opened(feeds)
        return dict(zip(self.outputs, self.session.run(self.outputs, feeds), strict=True))

    def _opened(self, feeds: Feeds) -> onnxruntime.InferenceSession:
        for name, value in feeds.items():
            element = helper.np_dtype_to_tensor_dtype(value.dtype)
            self.model.graph.input.append(helper.make_tensor_value_info(name, element, None))
        options = session_options(self.threads)
        options.graph_optimization_level = Level.ORT_DISABLE_ALL
        return open_session(save(self.model, self.path), "cpu", options)


def _inner(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside of a graph's nodes."""
    return (inner for node in graph.node for child in subgraphs(node) for inner in all_graphs(child))


def _read(node: onnx.NodeProto) -> set[str]:
    """What a node reads, by the graphs inside of it too."""
    if not any(True for _ in subgraphs(node)):
        return set(node.input)
    return set(node.input) | outer_names(onnx.GraphProto(node=[node]))

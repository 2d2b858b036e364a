"""The same 8-bit model written with 8-bit operators, as ONNX Runtime computes it.

    DQ(x), DQ(w), DQ(b) ─ Conv ─ Relu ─ Q      →      QLinearConv(x, w, b)

A smaller graph that loads sooner; only ONNX Runtime reads it, since but for QLinearConv and QLinearMatMul the operators
are its own (`com.microsoft`). What only moves values does so with the integers. What has no such operator keeps its
QuantizeLinear and DequantizeLinear.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.graph import attribute, copied, drop_unused, is_standard, outer_names, replace_list, weights_of
from engine.quantize.plan import CLIPPING, MOVING

OWN_DOMAIN = "com.microsoft"
SLACK = 1e-5  #: by which a range may exceed the bound of a Clip, for the rounding of its scale
#: of one input: both sides have a scale and a zero point
UNARY = {name: f"QLinear{name}" for name in ("AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu")}
BINARY = {name: f"QLinear{name}" for name in ("Add", "Mul")}


def to_qoperator(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A copy with 8-bit operators in place of the groups; None where there is no group."""
    copy = copied(model)
    rewriting = _Rewriting(copy.graph, weights_of(copy))
    rewritten = [rewriting.rewritten(node) for node in copy.graph.node]
    if not rewriting.count:
        return None
    given = {name for node in rewritten if node.op_type != "QuantizeLinear" for name in node.output}
    replace_list(
        copy.graph.node, [node for node in rewritten if node.op_type != "QuantizeLinear" or node.output[0] not in given]
    )
    drop_unused(copy)
    if OWN_DOMAIN not in {entry.domain for entry in copy.opset_import}:
        copy.opset_import.append(helper.make_opsetid(OWN_DOMAIN, 1))
    return copy


@dataclass
class _Rewriting:
    graph: onnx.GraphProto
    weights: dict[str, onnx.TensorProto]
    count: int = 0
    producers: dict[str, onnx.NodeProto] = field(default_factory=dict)
    readers: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)  #: from outside of the main graph's nodes

    def __post_init__(self) -> None:
        self.seen = {value.name for value in self.graph.output} | outer_names(self.graph)
        for node in self.graph.node:
            self.producers.update(dict.fromkeys(node.output, node))
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def rewritten(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """The 8-bit operator in place of the node, or the node itself."""
        write = WRITERS.get(node.op_type) if is_standard(node, *WRITERS) else None
        result = None if write is None else write(self, node)
        self.count += result is not None
        return node if result is None else result

    # ── what stands around a node ────────────────────────────────────────────────────────────────────────────────────

    def unpacked(self, name: str) -> list[str] | None:
        """Integers, scale and zero point that a tensor is made of."""
        node = self.producers.get(name)
        return list(node.input) if node is not None and is_standard(node, "DequantizeLinear") else None

    def all_unpacked(self, names: list[str]) -> list[list[str]] | None:
        found = [self.unpacked(name) for name in names]
        known = [entry for entry in found if entry is not None and len(entry) == 3]
        return known if len(known) == len(found) else None

    def packing(self, name: str) -> onnx.NodeProto | None:
        """The QuantizeLinear that alone reads a tensor, perhaps behind a Relu that does no more than it."""
        reader = self._sole_reader(name)
        if reader is not None and is_standard(reader, *CLIPPING):
            behind = self._sole_reader(reader.output[0])
            return behind if behind is not None and self._clips_alike(reader, behind) else None
        return reader if reader is not None and is_standard(reader, "QuantizeLinear") else None

    def _sole_reader(self, name: str) -> onnx.NodeProto | None:
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.seen and found[0].input[0] == name else None

    def _clips_alike(self, clip: onnx.NodeProto, packing: onnx.NodeProto) -> bool:
        """Whether the integers cannot hold what the Relu or Clip would cut off."""
        if not is_standard(packing, "QuantizeLinear"):
            return False
        scale, zero_point = (self._value(name) for name in packing.input[1:3])
        if scale is None or zero_point is None or scale.size != 1:
            return False
        limits = np.iinfo(zero_point.dtype)
        low, high = ((limit - int(zero_point)) * float(scale) for limit in (limits.min, limits.max))
        if clip.op_type == "Relu":
            return low >= 0
        bounds = [self._value(name) for name in clip.input[1:]]
        if len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
            return False
        return low >= bounds[0].item() and high <= bounds[1].item() * (1 + SLACK)

    def _value(self, name: str) -> np.ndarray | None:
        tensor = self.weights.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def same_parameters(self, one: list[str], other: list[str]) -> bool:
        """Whether scales and zero points are equal."""
        values = [(self._value(first), self._value(second)) for first, second in zip(one, other, strict=True)]
        return all(a is not None and b is not None and np.array_equal(a, b) for a, b in values)

    # ── one kind of group each ───────────────────────────────────────────────────────────────────────────────────────

    def conv(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        found, packing = self.all_unpacked(list(node.input)), self.packing(node.output[0])
        if found is None or packing is None:
            return None
        x, w, *b = found
        return _made(node, "QLinearConv", "", [*x, *w, *packing.input[1:3], *(bias[0] for bias in b)], packing)

    def matmul(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        found, packing = self.all_unpacked(list(node.input)), self.packing(node.output[0])
        if found is None:
            return None
        a, b = found
        if packing is None:
            inputs = [a[0], b[0], a[1], b[1], a[2], b[2]]
            return _made(node, "MatMulIntegerToFloat", OWN_DOMAIN, inputs, None)
        return _made(node, "QLinearMatMul", "", [*a, *b, *packing.input[1:3]], packing)

    def gemm(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        found, packing = self.all_unpacked(list(node.input)), self.packing(node.output[0])
        if found is None or attribute(node, "beta", 1.0) != 1.0:
            return None
        a, b, *c = found
        bias = c[0][0] if c else ""
        written = list(packing.input[1:3]) if packing is not None else []
        return _made(node, "QGemm", OWN_DOMAIN, [*a, *b, bias, *written], packing)

    def unary(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        found, packing = self.all_unpacked(list(node.input)), self.packing(node.output[0])
        if found is None or packing is None:
            return None
        return _made(node, UNARY[node.op_type], OWN_DOMAIN, [*found[0], *packing.input[1:3]], packing)

    def binary(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        found, packing = self.all_unpacked(list(node.input)), self.packing(node.output[0])
        if found is None or packing is None:
            return None
        return _made(node, BINARY[node.op_type], OWN_DOMAIN, [*found[0], *found[1], *packing.input[1:3]], packing)

    def concat(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        found, packing = self.all_unpacked(list(node.input)), self.packing(node.output[0])
        if found is None or packing is None:
            return None
        inputs = [*packing.input[1:3], *(name for entry in found for name in entry)]
        return _made(node, "QLinearConcat", OWN_DOMAIN, inputs, packing)

    def moving(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The same operator, on integers."""
        source = self.unpacked(node.input[0])
        packings = [self.packing(name) for name in node.output if name]
        if source is None or len(source) != 3 or not packings:
            return None
        targets = []
        for name, packing in zip(node.output, packings, strict=False):
            if packing is None or packing.input[0] != name:  # a Relu between them is not left out here
                return None
            if not self.same_parameters(source[1:], list(packing.input[1:3])):
                return None
            targets.append(packing.output[0])
        result = onnx.NodeProto()
        result.CopyFrom(node)
        result.input[0] = source[0]
        replace_list(result.output, targets)
        return result


def _made(
    node: onnx.NodeProto, operator: str, domain: str, inputs: list[str], packing: onnx.NodeProto | None
) -> onnx.NodeProto:
    """The operator with the node's name and attributes; it gives integers where they were packed behind the node."""
    outputs = list(node.output) if packing is None else [packing.output[0]]
    result = helper.make_node(operator, inputs, outputs, node.name, domain=domain)
    result.attribute.extend(node.attribute)
    return result


#: how each operator is written
WRITERS: dict[str, Callable[[_Rewriting, onnx.NodeProto], onnx.NodeProto | None]] = {
    "Conv": _Rewriting.conv,
    "MatMul": _Rewriting.matmul,
    "Gemm": _Rewriting.gemm,
    "Concat": _Rewriting.concat,
    **dict.fromkeys(UNARY, _Rewriting.unary),
    **dict.fromkeys(BINARY, _Rewriting.binary),
    **dict.fromkeys(MOVING, _Rewriting.moving),
}

"""Weights in 4 or 8 bits, written down so that the rest of the graph stays in float.

matmul_nbits   x·W  → MatMulNBits(x, q, s)               ONNX Runtime's own; reads packed weights as it multiplies
               E[i] → GatherBlockQuantized(q, i, s)      likewise; unpacks only the rows that are looked up
dequantize     q ─ DequantizeLinear ─ W ─ x·W            standard, opset 21; ONNX Runtime makes MatMulNBits of it
unpack         q ─ Cast ─ Mul ─ W ── all readers         standard; computed once, as the model is loaded

A weight for which the first two do not fit is unpacked: convolutions, recurrent layers, weights that are read in two
ways, weights inside a branch or loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from engine.graph import NO_INPUT, Names, replace_list
from engine.quantize.blockwise import Blocks, even_size, paired, refitted, rounded, scale_type
from engine.quantize.calibrate import Calibrator
from engine.quantize.patches import patch_of, second_moments
from engine.quantize.unpacked import unpack
from engine.quantize.weights import Weight, weights
from engine.recipe import QuantizeWeights, WeightLayout
from engine.unpack import Unpacker, inside_out

EIGHT_BIT_ACTIVATIONS = 4  #: accuracy level of MatMulNBits; its float kernels are slower than weights unpacked before
MICROSOFT = "com.microsoft"

Write = Callable[["_Surgery", Weight, Blocks], None]
Moments = Mapping[str, NDArray[np.float32]]  #: E[x xᵀ] of what a weight is multiplied by, by its name


@dataclass(frozen=True)
class Packing:
    """How a weight was packed."""

    layout: WeightLayout
    bits: int
    is_fitted: bool  #: rounded by least squares


def moments_of(calibrator: Calibrator, options: QuantizeWeights) -> Moments:
    """Of the weights that can be rounded by least squares: factors of products in the main graph."""
    found = [one for one in weights(calibrator.model.graph, options.keep_float) if one.is_plain_factor()]
    patches = {one.name: [patch_of(node, one.tensor.dims) for node, _ in one.readers] for one in found}
    known = {name: [patch for patch in some if patch is not None] for name, some in patches.items()}
    moments = second_moments(calibrator, [patch for some in known.values() for patch in some])
    seen = {name: [moments[patch][0] for patch in some if patch in moments] for name, some in known.items()}
    return {name: np.mean(some, axis=0) for name, some in seen.items() if some}


def pack(model: onnx.ModelProto, options: QuantizeWeights, moments: Moments | None = None) -> set[Packing]:
    """Pack the weights of a model in place; in which ways, none where it has no such weights.

    Weights whose moments are given are rounded by least squares.
    """
    names = Names.of(model)
    used: set[Packing] = set()
    *inner, main = inside_out(model)
    for graph in inner:
        used |= _Surgery(Unpacker(graph, names), options, is_main=False).operate()
    used |= _Surgery(Unpacker(main, names), options, is_main=True, moments=moments or {}).operate()
    domains = {node.domain for node in model.graph.node} - {entry.domain for entry in model.opset_import}
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in domains & {MICROSOFT})
    return used


@dataclass
class _Surgery:
    new: Unpacker
    options: QuantizeWeights
    is_main: bool
    moments: Moments = field(default_factory=dict)
    instead: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)  #: of a node, by its first output

    def operate(self) -> set[Packing]:
        found = [weight for weight in weights(self.new.graph, self.options.keep_float) if _is_finite(weight)]
        used = {self._pack(weight) for weight in found}
        nodes = (self.instead.get(node.output[0], [node]) if node.output else [node] for node in self.new.graph.node)
        replace_list(self.new.graph.node, [node for several in nodes for node in several])
        self.new.finish({weight.name for weight in found})
        return used

    def _pack(self, weight: Weight) -> Packing:
        layout, write = self._choice(weight)
        rows = weight.view.rows(weight.values)
        bits, size, dtype = self.options.bits if weight.view.is_robust else 8, self.options.block_size, rows.dtype
        if layout is WeightLayout.UNPACK:
            size = even_size(rows.shape[1], size)
            dtype = np.dtype(scale_type(rows, bits, size))
        blocks = rounded(rows, bits, size, symmetric=self.options.symmetric, dtype=dtype)
        is_fitted = weight.name in self.moments
        if is_fitted:
            blocks = refitted(rows, blocks, self.moments[weight.name])
        write(self, weight, blocks)
        return Packing(layout, bits, is_fitted)

    def _choice(self, weight: Weight) -> tuple[WeightLayout, Write]:
        """The layout asked for, or unpacking where it does not fit."""
        wanted = self.options.layout if self.is_main else WeightLayout.UNPACK
        if wanted is WeightLayout.MATMUL_NBITS and weight.is_plain_factor():
            return wanted, _Surgery._multiply
        if wanted is WeightLayout.MATMUL_NBITS and self._fills_blocks(weight) and weight.read_by("Gather"):
            return wanted, _Surgery._gather
        if wanted is WeightLayout.DEQUANTIZE and len(weight.readers) == 1 and weight.is_plain_factor():
            return wanted, _Surgery._dequantize
        return WeightLayout.UNPACK, _Surgery._unpack

    def _fills_blocks(self, weight: Weight) -> bool:
        return weight.tensor.dims[-1] % self.options.block_size == 0

    # ── as ONNX Runtime's own operators read them ────────────────────────────────────────────────────────────────────

    def _multiply(self, weight: Weight, blocks: Blocks) -> None:
        levels = self.new.store(blocks.packed(), f"{weight.name}_packed")
        scales = self.new.store(blocks.scales.ravel(), f"{weight.name}_scales")
        zeros = [self.new.store(zero.ravel(), wish) for wish, zero in self._zeros(weight, blocks)] or [NO_INPUT]
        for node, _ in weight.readers:
            target, bias = node.output[0], node.input[2] if len(node.input) > 2 else NO_INPUT
            taken = self._is_vector(bias, len(blocks.levels))
            product = self.new.names.fresh(f"{target}_product") if bias and not taken else target
            optional = [*zeros, NO_INPUT, bias] if taken else [zero for zero in zeros if zero]
            multiplied = _own("MatMulNBits", node, [node.input[0], levels, scales, *optional], product)
            _set(multiplied, K=blocks.inputs, N=len(blocks.levels), accuracy_level=EIGHT_BIT_ACTIVATIONS)
            _set(multiplied, bits=blocks.bits, block_size=blocks.levels.shape[-1])
            self.instead[target] = [multiplied]
            if product != target:
                name = self.new.names.fresh(f"{target}_Add")
                self.instead[target].append(helper.make_node("Add", [product, bias], [target], name))

    def _is_vector(self, name: str, size: int) -> bool:
        return any(weight.name == name and list(weight.dims) == [size] for weight in self.new.graph.initializer)

    def _gather(self, weight: Weight, blocks: Blocks) -> None:
        levels = self.new.store(blocks.packed().reshape(len(blocks.levels), -1), f"{weight.name}_packed")
        scales = self.new.store(blocks.scales, f"{weight.name}_scales")
        stored = [scales, *(self.new.store(zero, wish) for wish, zero in self._zeros(weight, blocks))]
        for node, _ in weight.readers:
            gathered = _own("GatherBlockQuantized", node, [levels, node.input[1], *stored], node.output[0])
            _set(gathered, gather_axis=0, quantize_axis=1, bits=blocks.bits, block_size=blocks.levels.shape[-1])
            self.instead[node.output[0]] = [gathered]

    def _zeros(self, weight: Weight, blocks: Blocks) -> list[tuple[str, np.ndarray]]:
        """Name and values of the zero points; where there are none, half of the levels is meant."""
        if self.options.symmetric:
            return []
        values = blocks.zero_points if blocks.bits == 8 else paired(blocks.zero_points)
        return [(f"{weight.name}_zero_points", values)]

    # ── as standard operators read them ──────────────────────────────────────────────────────────────────────────────

    def _dequantize(self, weight: Weight, blocks: Blocks) -> None:
        ((node, _),) = weight.readers
        replace_list(node.attribute, [entry for entry in node.attribute if entry.name != "transB"])
        signed = self.options.symmetric
        levels = _integers(
            blocks.levels.reshape(len(blocks.levels), -1)[:, : blocks.inputs].T, blocks.bits, signed=signed
        )
        stored = [
            self.new.keep(levels, f"{weight.name}_packed"),
            self.new.store(blocks.scales.T, f"{weight.name}_scales"),
        ]
        if not signed:
            zero_points = _integers(blocks.zero_points.T, blocks.bits, signed=False)
            stored.append(self.new.keep(zero_points, f"{weight.name}_zero_points"))
        self.new.give("DequantizeLinear", stored, weight.name, axis=0, block_size=blocks.levels.shape[-1])

    def _unpack(self, weight: Weight, blocks: Blocks) -> None:
        unpack(self.new, weight, blocks, symmetric=self.options.symmetric)


def _is_finite(weight: Weight) -> bool:
    return bool(np.isfinite(weight.values).all())


def _own(operator: str, node: onnx.NodeProto, inputs: list[str], output: str) -> onnx.NodeProto:
    """An operator of ONNX Runtime's own, under the name of the node that it stands for."""
    return helper.make_node(operator, inputs, [output], node.name, domain=MICROSOFT)


def _set(node: onnx.NodeProto, **attributes: int) -> None:
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())


def _integers(levels: np.ndarray, bits: int, *, signed: bool) -> onnx.TensorProto:
    """Levels as a tensor of ONNX's integers; signed ones have their zero in the middle."""
    if bits == 8:
        return numpy_helper.from_array(np.ascontiguousarray((levels ^ 128).view(np.int8) if signed else levels))
    values = np.ascontiguousarray(levels ^ 8 if signed else levels)
    element = onnx.TensorProto.INT4 if signed else onnx.TensorProto.UINT4
    return onnx.TensorProto(data_type=element, dims=values.shape, raw_data=paired(values.ravel()).tobytes())

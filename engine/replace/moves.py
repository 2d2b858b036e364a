"""What can stand in the place of a layer, started from the layer's own weights.

    depthwise        W[:, c] ≈ Σ_r u_r v_rᵀ for each input channel c: v_r filters the channel, u_r mixes it in
                     (singular value decomposition; Jaderberg et al. 2014, Guo et al. 2018)
    smaller_kernel   the centre of the kernel
    low_rank         W ≈ U V through a narrow middle (Zhang et al. 2016); of matrix products too
    tucker           W ≈ core ×₁ U_out ×₂ U_in, three convolutions in a row (Kim et al. 2016)
    narrower         a block without half of its inner channels (`engine.prune`)
    skip             the input itself, where shapes agree

They are starting points: what follows teaches them (`engine.replace.lessons`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from engine.graph import NO_INPUT, TensorType, attribute, is_standard, tensor_types, weights_of
from engine.prune.choice import least, widths
from engine.prune.groups import followed, groups, shapes_of
from engine.prune.importance import magnitudes
from engine.prune.surgery import without
from engine.recipe import Move
from engine.replace.parts import Array, Draft, Part, cut_out
from engine.replace.sites import Site

MULTIPLE = 8  #: of channels in the middle
HALF, QUARTER = 1 / 2, 1 / 4  #: of the work of a layer


@dataclass(frozen=True)
class Layer:
    """A convolution or a matrix product, as arrays."""

    draft: Draft
    weight: Array  #: (outputs, inputs, height, width) of a convolution, (inputs, outputs) of a product
    bias: Array | None
    shaping: dict[str, Any]  #: strides, pads and dilations of a convolution

    def conv(self, x: str, weight: Array, bias: Array | None = None, *, last: bool = False, **shaping: Any) -> str:
        inputs = [x, *(self.draft.weight(values) for values in (weight, bias) if values is not None)]
        return self.draft.op("Conv", *inputs, last=last, **shaping)


def parts(
    model: onnx.ModelProto,
    site: Site,
    allowed: frozenset[Move],
    types: Mapping[str, TensorType],
    declared: Mapping[str, TensorType],
) -> Iterator[Part]:
    """All that could stand there. `types` are those of one run, `declared` those of any run (`declared_types`)."""
    for move in Move:
        if move in allowed:
            part = _block(model, site, move, types, declared) if site.is_block else _layer(model, site, move, types)
            if part is not None:
                yield part


def declared_types(model: onnx.ModelProto) -> dict[str, TensorType]:
    """Types with axes open that the model leaves open: a shape that is written down holds for any number of rows."""
    return tensor_types(shapes_of(model))


def _same_shape(site: Site, types: Mapping[str, TensorType]) -> bool:
    before, after = types.get(site.input), types.get(site.output)
    return before is not None and after is not None and before.shape is not None and before.shape == after.shape


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _layer(model: onnx.ModelProto, site: Site, move: Move, types: Mapping[str, TensorType]) -> Part | None:
    draft = Draft(site, move, model)
    if move is Move.SKIP:
        draft.op("Identity", site.input, last=True)
        return draft.done() if _same_shape(site, types) else None
    made = (CONVOLUTIONS if is_standard(site.node, "Conv") else PRODUCTS).get(move)
    layer = _read(model, draft)
    return draft.done() if made is not None and made(layer) else None


def _read(model: onnx.ModelProto, draft: Draft) -> Layer:
    node, weights = draft.site.node, weights_of(model)
    weight = numpy_helper.to_array(weights[node.input[1]]).astype(np.float64)
    named = [name for name in node.input[2:] if name != NO_INPUT]
    bias = numpy_helper.to_array(weights[named[0]]).astype(np.float64) if named else None
    if is_standard(node, "Gemm") and attribute(node, "transB", 0):
        weight = weight.T
    kept = ("auto_pad", "dilations", "pads", "strides")
    shaping = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name in kept}
    return Layer(draft, weight, bias, shaping)


def _depthwise(layer: Layer, kernels: int) -> bool:
    outputs, inputs, height, width = layer.weight.shape
    if height * width == 1 or inputs < 2:
        return False
    rows = layer.weight.transpose(1, 0, 2, 3).reshape(inputs, outputs, height * width)
    mixes, sizes, filters = np.linalg.svd(rows, full_matrices=False)
    count = min(kernels, sizes.shape[1])
    root = np.sqrt(sizes[:, :count])
    filters = (filters[:, :count] * root[:, :, None]).reshape(inputs * count, 1, height, width)
    mixes = (mixes[:, :, :count] * root[:, None]).transpose(1, 0, 2).reshape(outputs, inputs * count, 1, 1)
    middle = layer.conv(layer.draft.site.input, filters, group=inputs, **layer.shaping)
    layer.conv(middle, mixes, layer.bias, last=True)
    return True


def _smaller_kernel(layer: Layer) -> bool:
    node = layer.draft.site.node
    height, width = layer.weight.shape[2:]
    pads, steps = attribute(node, "pads", [0] * 4), attribute(node, "dilations", [1, 1])
    fewer = [pad - step for pad, step in zip(pads, [*steps, *steps], strict=True)]
    if height < 3 or width < 3 or min(fewer) < 0 or "auto_pad" in layer.shaping:
        return False
    shaping = layer.shaping | {"pads": fewer}
    layer.conv(layer.draft.site.input, layer.weight[:, :, 1:-1, 1:-1], layer.bias, last=True, **shaping)
    return True


def _low_rank(layer: Layer, share: float) -> bool:
    outputs, *rest = layer.weight.shape
    matrix = layer.weight.reshape(outputs, -1)
    rank = _rank(share, *matrix.shape)
    if not rank:
        return False
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(sizes[:rank])
    first = (right[:rank] * root[:, None]).reshape(rank, *rest)
    middle = layer.conv(layer.draft.site.input, first, **layer.shaping)
    layer.conv(middle, (left[:, :rank] * root)[:, :, None, None], layer.bias, last=True)
    return True


def _tucker(layer: Layer) -> bool:
    outputs, inputs, height, width = layer.weight.shape
    few_in, few_out = (size // 2 // MULTIPLE * MULTIPLE for size in (inputs, outputs))
    if height * width == 1 or not few_in or not few_out:
        return False
    into = np.linalg.svd(layer.weight.transpose(1, 0, 2, 3).reshape(inputs, -1), full_matrices=False)[0][:, :few_in]
    back = np.linalg.svd(layer.weight.reshape(outputs, -1), full_matrices=False)[0][:, :few_out]
    core = np.einsum("oihw,oa,ib->abhw", layer.weight, back, into)
    x = layer.conv(layer.draft.site.input, into.T[:, :, None, None])
    x = layer.conv(x, core, **layer.shaping)
    layer.conv(x, back[:, :, None, None], layer.bias, last=True)
    return True


def _low_rank_product(layer: Layer, share: float) -> bool:
    rank = _rank(share, *layer.weight.shape)
    if not rank:
        return False
    left, sizes, right = np.linalg.svd(layer.weight, full_matrices=False)
    root, draft = np.sqrt(sizes[:rank]), layer.draft
    first, second = left[:, :rank] * root, right[:rank] * root[:, None]
    middle = draft.op("MatMul", draft.site.input, draft.weight(first))
    bias = [] if layer.bias is None else [draft.weight(layer.bias)]
    draft.op("Gemm" if bias else "MatMul", middle, draft.weight(second), *bias, last=True)
    return True


def _rank(share: float, rows: int, columns: int) -> int:
    """So that two layers through the middle take this share of the work of one; 0 where that is too narrow."""
    return int(share * rows * columns / (rows + columns)) // MULTIPLE * MULTIPLE


CONVOLUTIONS: dict[Move, Callable[[Layer], bool]] = {
    Move.DEPTHWISE: lambda layer: _depthwise(layer, 1),
    Move.DEPTHWISE_TWICE: lambda layer: _depthwise(layer, 2),
    Move.SMALLER_KERNEL: _smaller_kernel,
    Move.LOW_RANK: lambda layer: _low_rank(layer, HALF),
    Move.LOWER_RANK: lambda layer: _low_rank(layer, QUARTER),
    Move.TUCKER: _tucker,
}
PRODUCTS: dict[Move, Callable[[Layer], bool]] = {
    Move.LOW_RANK: lambda layer: _low_rank_product(layer, HALF),
    Move.LOWER_RANK: lambda layer: _low_rank_product(layer, QUARTER),
}

# ── blocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _block(
    model: onnx.ModelProto,
    site: Site,
    move: Move,
    types: Mapping[str, TensorType],
    declared: Mapping[str, TensorType],
) -> Part | None:
    draft = Draft(site, move, model)
    if move is Move.SKIP:
        draft.op("Identity", site.input, last=True)
        return draft.done() if _same_shape(site, types) else None
    return _narrower(cut_out(model, site, declared), draft) if move is Move.NARROWER else None


def _narrower(region: onnx.ModelProto, draft: Draft) -> Part | None:
    walk = followed(region)
    found = groups(walk)
    removed = least(found, magnitudes(walk), widths(found, HALF, MULTIPLE)) if found else np.array([])
    if not len(removed):
        return None
    return Part(draft.site, draft.move, _renamed(without(walk, removed), draft))


def _renamed(model: onnx.ModelProto, draft: Draft) -> onnx.ModelProto:
    """With names of their own for all inside, since the weights are others now."""
    ends = {draft.site.input, draft.site.output}
    inner = {name for node in model.graph.node for name in (*node.input, *node.output) if name and name not in ends}
    new = {name: f"{draft.site.output}/{draft.move}/{name}" for name in inner}  # a weight may be read by two blocks
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = new.get(name, name)
    for weight in model.graph.initializer:
        weight.name = new[weight.name]
    del model.graph.value_info[:]
    return model

"""The training twin of an 8-bit graph: the same graph, with float weights that it rounds as it runs.

    stored      q (int8) ─────────────────────────── DequantizeLinear(s) ─ w      b (int32) ─ DequantizeLinear ─ bias
    twin        v ─ QuantizeLinear(f/8) ─ Clip ─ q ─ DequantizeLinear(f·s) ─ w    u ─ Div ─ bias

The twin computes what the stored graph computes, but v and u are floats and can follow gradients. They count levels, in
eights, so that one learning rate suits all layers: what a weight is worth is its distance to the next level. Where
scales learn too, each has a factor f = exp(PACE · p), and p begins at 0; else f is 1. What they have become is rounded
into the stored graph, of which nothing else changes: same nodes, same zero points, same kernels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.graph import Names, copied, opset, replace_list, weights_of
from engine.quantize.integers import FULL_LEVELS, REDUCED_LEVELS
from engine.quantize.scales import Factor, layers_with_bias, learnable
from engine.quantize.stored import Stored, stored_biases, stored_weights

LOWEST_OPSET = 13  #: from here on QuantizeLinear has an axis
STEP = np.float32(1 / 8)  #: of a level; 1 is a large change for a weight, as elsewhere
PACE = np.float32(32)  #: how much faster than weights scales learn
LARGEST_BIAS = np.iinfo(np.int32).min, np.iinfo(np.int32).max
FULL_INPUT = 128  #: levels of an input at its largest: a bias moves as far as the weight that meets it
FOUR_BITS = -8, 7
NEXT_TO_ZERO = np.float32(2.0**-20)  #: of a level
STORED = "_quantized"  #: what `qdq` appends to the name of a weight


@dataclass
class Twin:
    """`floats` are the weights that the stored ones were rounded from, as far as they are known."""

    stored: onnx.ModelProto
    floats: Mapping[str, np.ndarray] = field(default_factory=dict)
    learn_scales: bool = False
    model: onnx.ModelProto = field(init=False)
    _weights: dict[str, Stored] = field(default_factory=dict)  #: by the names of their floats in the twin
    _biases: dict[str, Stored] = field(default_factory=dict)
    _powers: dict[str, list[Factor]] = field(default_factory=dict)  #: by the names of what is learned of them

    def __post_init__(self) -> None:
        weights, biases = list(stored_weights(self.stored)), list(stored_biases(self.stored))
        factors = learnable(self.stored, weights, biases) if self.learn_scales else []
        scales = {name for factor in factors for name in factor.scales}
        self.levels = _levels(weights)
        self._constants = weights_of(self.stored)
        self.model = copied(self.stored, without={*scales, *(one.name for one in (*weights, *biases))})
        self._names = Names.of(self.stored)
        nodes, factor_of = self._scaled(factors)
        nodes += [node for one in weights for node in self._rounding(one, factor_of.get(one.scale_name))]
        biased = {one.node.output[0]: self._biasing(one) for one in biases}
        nodes += [biased.get(node.output[0], node) for node in self.model.graph.node]
        replace_list(self.model.graph.node, nodes)

    # ── scales ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _scaled(self, factors: list[Factor]) -> tuple[list[onnx.NodeProto], dict[str, str]]:
        """The nodes that make scales, and the factor of each scale. All factors that are numbers lie in one tensor."""
        nodes: list[onnx.NodeProto] = []
        made: dict[str, str] = {}
        numbers = [factor for factor in factors if factor.is_number]
        if numbers:
            names = [self._names.fresh(f"{factor.scales[0]}_factor") for factor in numbers]
            together = self._power(numbers, (len(numbers) + 1,), nodes)  # one is idle: single numbers do not learn
            sizes = self._store(np.ones(len(numbers) + 1, np.int64), "factor_sizes")
            nodes.append(helper.make_node("Split", [together, sizes], [*names, self._names.fresh("idle_factor")]))
            made |= {name: factor for one, factor in zip(numbers, names, strict=True) for name in one.scales}
        for factor in factors:
            if not factor.is_number:
                made[factor.scales[0]] = self._power([factor], factor.shape, nodes)
        for name, factor_name in made.items():
            divisor = self._store(1 / numpy_helper.to_array(self._constants[name]), f"{name}_divisor")
            nodes.append(helper.make_node("Div", [factor_name, divisor], [name]))
        return nodes, made

    def _power(self, factors: list[Factor], shape: tuple[int, ...], nodes: list[onnx.NodeProto]) -> str:
        """Add the node that makes factors of what is learned; the name of its output."""
        learning = self._store(np.zeros(shape, np.float32), f"{factors[0].scales[0]}_learning")
        self._powers[learning] = factors
        power, target = (self._names.fresh(f"{learning}_{word}") for word in ("power", "factors"))
        nodes.append(helper.make_node("Div", [learning, self._store(1 / PACE, f"{learning}_divisor")], [power]))
        nodes.append(helper.make_node("Exp", [power], [target]))
        return target

    def _factors(self, learned: Mapping[str, onnx.TensorProto]) -> dict[str, np.ndarray]:
        """What each scale was multiplied by in training."""
        found: dict[str, np.ndarray] = {}
        for name, factors in self._powers.items():
            values = np.exp(numpy_helper.to_array(learned[name]) * PACE)
            for factor, value in zip(factors, values if factors[0].is_number else [values], strict=False):
                found |= dict.fromkeys(factor.scales, np.minimum(value, np.float32(factor.most)).reshape(factor.shape))
        return found

    # ── weights and biases ───────────────────────────────────────────────────────────────────────────────────────────

    def _rounding(self, one: Stored, factor: str | None) -> list[onnx.NodeProto]:
        """The nodes that make the integers of a float weight."""
        learning = self._store(self._levels_of(one) * STEP, f"{one.name}_learning")
        self._weights[learning] = one
        rounded = self._names.fresh(f"{one.name}_rounded")
        zero = self._store(np.int8(0), f"{one.name}_zero")
        limits = [self._store(np.int8(level), f"{one.name}_limit") for level in self._limits(one)]
        if factor is None:
            step, nodes = self._store(STEP, f"{one.name}_step"), []
        else:
            step = self._names.fresh(f"{one.name}_step")
            nodes = [helper.make_node("Div", [factor, self._store(1 / STEP, f"{step}_divisor")], [step])]
        rounding = helper.make_node("QuantizeLinear", [learning, step, zero], [rounded])
        if factor is not None and one.axis is not None:
            rounding.attribute.append(helper.make_attribute("axis", one.axis))
            rounding.attribute.append(helper.make_attribute("block_size", one.block_size))
        return [*nodes, rounding, helper.make_node("Clip", [rounded, *limits], [one.name])]

    def _biasing(self, one: Stored) -> onnx.NodeProto:
        """The node that makes a float bias, in place of the one that makes it of integers."""
        learning = self._store((one.values * (STEP / FULL_INPUT)).astype(np.float32), f"{one.name}_learning")
        self._biases[learning] = one
        divisor = self._store((STEP / FULL_INPUT / one.scale).astype(np.float32), f"{one.name}_divisor")
        return helper.make_node("Div", [learning, divisor], one.node.output)

    def _limits(self, one: Stored) -> tuple[int, int]:
        return FOUR_BITS if one.bits == 4 else (-self.levels, self.levels)

    def _levels_of(self, one: Stored) -> np.ndarray:
        """How many levels each weight was before it was rounded, else since."""
        known, levels = self.floats.get(one.name.removesuffix(STORED)), one.values.astype(np.float32)
        if known is None or known.shape != one.values.shape:
            return _without_rounded_zeros(levels, np.full(levels.shape, _is_pruned(levels)))
        exact = one.in_levels(known)
        if np.array_equal(np.clip(np.rint(exact), *self._limits(one)), one.values):
            levels = exact
        return _without_rounded_zeros(levels, known == 0)

    def _store(self, values: np.ndarray | np.generic, wish: str) -> str:
        name = self._names.fresh(wish)
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    # ── back ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def rounded(self, trained: onnx.ModelProto) -> onnx.ModelProto:
        """The stored graph with the weights and scales of the trained twin."""
        result, learned = copied(self.stored), weights_of(trained)
        places, factors = weights_of(result), self._factors(learned)
        one_each = np.ones((), np.float32)
        for name, one in self._weights.items():
            step = STEP * one.spread(factors.get(one.scale_name, one_each)) if factors else STEP
            levels = np.rint(numpy_helper.to_array(learned[name]) / step)
            _put(places[one.name], np.clip(levels, *self._limits(one)))
        steps = {
            layer.bias: np.asarray(
                factors.get(layer.input_scale or "", one_each) * factors.get(layer.weight_scale or "", one_each)
            )
            for layer in layers_with_bias(self.stored)
        }
        for name, one in self._biases.items():
            step = np.float64(STEP / FULL_INPUT) * steps[one.node.output[0]]
            _put(places[one.name], np.clip(np.rint(numpy_helper.to_array(learned[name]) / step), *LARGEST_BIAS))
            factors[one.scale_name] = steps[one.node.output[0]]
        for name, factor in factors.items():
            _put(places[name], numpy_helper.to_array(places[name]) * factor)
        for name in set(places) & set(learned):
            if places[name].data_type == TensorProto.FLOAT and name not in factors:
                places[name].CopyFrom(learned[name])  # of layers that compute in float
        return result


def refusal(model: onnx.ModelProto) -> str | None:
    """Why a quantized model has no twin, in words for the user."""
    if opset(model) < LOWEST_OPSET:
        return f"it is quantized already, at an opset older than {LOWEST_OPSET}"
    if not any(True for _ in stored_weights(model)):
        return (
            "it is quantized already, and has no int8 weights behind DequantizeLinear that could learn; "
            "quantize_static writes them with the layout qdq"
        )
    return None


def _levels(weights: list[Stored]) -> int:
    """Whether all weights of 8 bits keep to the reduced range."""
    largest = max(
        (int(np.abs(one.values.astype(np.int32)).max(initial=0)) for one in weights if one.bits == 8), default=0
    )
    return REDUCED_LEVELS if largest <= REDUCED_LEVELS else FULL_LEVELS


def _is_pruned(levels: np.ndarray) -> bool:
    """Whether a weight has been pruned, where just its levels are known: there are more zeros than ones of both signs.

    Of a bell-shaped weight, rounding makes about half as many.
    """
    return int(np.sum(levels == 0)) > int(np.sum(np.abs(levels) == 1))


def _without_rounded_zeros(levels: np.ndarray, pruned: np.ndarray) -> np.ndarray:
    """What rounding made zero is next to zero only: whoever trains the twin keeps weights that are zero as pruned."""
    return np.where((levels == 0) & ~pruned, NEXT_TO_ZERO, levels).astype(np.float32)


def _put(place: onnx.TensorProto, values: np.ndarray) -> None:
    """Other values of the same type and shape."""
    dtype = helper.tensor_dtype_to_np_dtype(place.data_type)
    place.CopyFrom(numpy_helper.from_array(values.astype(dtype).reshape(place.dims), place.name))

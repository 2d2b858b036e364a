"""Follows channels through a graph: every axis of every tensor is an array of channel ids.

Each position of a weight's axis starts as a channel of its own. Operator by operator, a rule says how the axes of the
outputs come from those of the inputs, and which positions can only leave together:

    Conv        input channels = axis 1 of the weight, output channels = axis 0 = bias
    Add         position by position the same channels, so residual sums tie their branches
    Concat      the arrays one behind the other
    Reshape     (C, H, W) → C·H·W repeats each id H·W times; H·D → (H, D) ties the D positions of each of the H heads

What enters or leaves the model stays, and whatever an operator without a rule touches. After “Towards any structural
pruning” (DepGraph, Fang et al., CVPR 2023), but on positions of axes where that has pairs of layers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from engine.graph import NO_INPUT, ONNX_DOMAINS, Shape, operator_of, outer_names, subgraphs, tensor_types
from engine.prune.channels import FROZEN, Channels, Ids

Axis = Ids | str | None  #: ids where the length is known, else its symbol, else None
Axes = list[Axis]
Key = tuple[str, int]  #: a tensor and the axis along which its channels lie
Number = int | Axis  #: an element of a tensor that holds a shape: a number, or the length of an axis
Rule = Callable[["Walk", onnx.NodeProto], Sequence[Axes | None]]
NumberRule = Callable[["Walk", onnx.NodeProto], list[Number] | None]

FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)
WHOLE = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)  #: types of shapes
#: inputs that take lengths as what they are
SHAPES_OF: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Reshape": (1,),
    "Resize": (3,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
}
MOST_NUMBERS = 64  #: elements of a tensor that may hold a shape


class Unfollowed(Exception):
    """A rule cannot tell what becomes of the axes; then all that the node touches stays."""


#: what a rule raises that does not fit, such as one for another rank: then what the node touches stays
MISFITS = (Unfollowed, IndexError, ValueError)


@dataclass(frozen=True)
class Reader:
    """A product of a tensor with a constant weight: where channels are summed up."""

    node: onnx.NodeProto
    tensor: str
    axis: int  #: of the tensor; negative ones count from the end
    weight: str
    weight_axis: int
    groups: int = 1
    of_itself: bool = False  #: a recurrent layer, which reads what it has just made

    @property
    def key(self) -> Key:
        """What it reads."""
        return self.tensor, self.axis

    def blocks(self, weight: np.ndarray) -> list[np.ndarray]:
        """Views of the weight, (channels, outputs, …): one for each group of channels that it sums up by itself."""
        inputs = np.moveaxis(weight, self.weight_axis, 0)
        if self.groups == 1:
            return [inputs]
        return np.split(inputs, self.groups, axis=0 if self.weight_axis == 0 else 1)  # 0: transposed convolutions


@dataclass
class Walk:
    model: onnx.ModelProto
    shaped: onnx.GraphProto  #: the same graph with all shapes that can be inferred
    rules: Mapping[str, Rule]
    number_rules: Mapping[str, NumberRule]
    choices: Mapping[str, int] = field(default_factory=dict)  #: which axis carries channels, by the output of a Reshape
    channels: Channels = field(default_factory=Channels)
    axes: dict[str, Axes | None] = field(default_factory=dict)
    numbers: dict[str, list[Number]] = field(default_factory=dict)
    readers: list[Reader] = field(default_factory=list)
    parts: list[Ids] = field(default_factory=list)  #: positions that an axis is cut into, and of which some must stay
    mixed: list[Key] = field(default_factory=list)  #: where channels are summed up in other ways, without a weight
    stopped: list[str] = field(default_factory=list)  #: operators through which channels are not followed
    unshaped: list[str] = field(default_factory=list)  #: operators of whose inputs no shape is known
    open_choices: dict[str, tuple[Ids, int]] = field(default_factory=dict)  #: ids at stake, and axes to choose from

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.weights = {weight.name: weight for weight in graph.initializer}
        types = tensor_types(self.shaped)
        self.declared = {name: known.shape for name, known in types.items()}
        self.elements = {name: known.element for name, known in types.items()}
        for weight in graph.initializer:
            self.axes[weight.name] = [self._own(weight, size) for size in weight.dims]
            self._read_numbers(weight)
        for value in graph.input:
            self.axes.setdefault(value.name, fixed(value.name, self.declared.get(value.name)))

    def _own(self, weight: onnx.TensorProto, size: int) -> Ids:
        return self.channels.fresh(size) if size > 1 and weight.data_type in FLOATS else stay(size)

    def _read_numbers(self, weight: onnx.TensorProto) -> None:
        if weight.data_type in WHOLE and len(weight.dims) <= 1 and sum(weight.dims) <= MOST_NUMBERS:
            self.numbers[weight.name] = [int(value) for value in numpy_helper.to_array(weight).ravel()]

    # ── the walk ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> "Walk":
        graph = self.model.graph
        for node in graph.node:
            self._follow(node)
        if any(map(self._carries, outer_names(graph))):
            self.stopped += [operator_of(node) for node in graph.node if any(subgraphs(node))]
        for name in {value.name for value in graph.output} | outer_names(graph):
            self.freeze_tensor(name)
            self.freeze_numbers(name)
        return self

    def _follow(self, node: onnx.NodeProto) -> None:
        standard = node.domain in ONNX_DOMAINS
        rule = self.rules.get(operator_of(node))
        try:
            if rule is None:
                raise Unfollowed
            outputs = rule(self, node)
        except MISFITS:
            outputs = self._stop(node)
        for name, axes in zip(node.output, outputs, strict=False):
            self.axes[name] = axes
        self._follow_numbers(node, self.number_rules.get(node.op_type) if standard else None)

    def _follow_numbers(self, node: onnx.NodeProto, rule: NumberRule | None) -> None:
        try:
            numbers = rule(self, node) if rule else None
        except MISFITS:
            numbers = None
        if numbers is not None:
            self.numbers[node.output[0]] = numbers
            return
        shapes = SHAPES_OF.get(node.op_type, ())
        for index, name in enumerate(node.input):
            if index not in shapes:
                self.freeze_numbers(name)

    def _stop(self, node: onnx.NodeProto) -> list[Axes | None]:
        """All that the node touches stays."""
        if any(name and self.axes.get(name) is None for name in node.input):
            self.unshaped.append(operator_of(node))
        elif any(map(self._carries, node.input)):
            self.stopped.append(operator_of(node))
        for name in node.input:
            self.freeze_tensor(name)
            self.freeze_numbers(name)
        return [fixed(name, self.declared.get(name)) for name in node.output]

    def _carries(self, name: str) -> bool:
        """Whether channels that may leave lie along an axis."""
        return not all(map(self.is_frozen, self.axes.get(name) or ()))

    # ── for rules ────────────────────────────────────────────────────────────────────────────────────────────────────

    def input(self, node: onnx.NodeProto, index: int) -> Axes:
        """Axes of an input."""
        axes = self.optional(node, index)
        if axes is None:
            raise Unfollowed
        return axes

    def optional(self, node: onnx.NodeProto, index: int) -> Axes | None:
        """Axes of an input; None where it is left out."""
        if index >= len(node.input) or node.input[index] == NO_INPUT:
            return None
        axes = self.axes.get(node.input[index])
        if axes is None:
            raise Unfollowed
        return axes

    def whole_numbers(self, node: onnx.NodeProto, index: int) -> list[int] | None:
        """Values of an input that holds shapes or indices, as far as they are known."""
        return self.known_numbers(node.input[index]) if index < len(node.input) else None

    def known_numbers(self, name: str) -> list[int] | None:
        """What a tensor of numbers holds; None where one of them may vary."""
        numbers = self.numbers.get(name)
        values = [value_of(number) for number in numbers or ()]
        known = [value for value in values if isinstance(value, int)]
        return known if numbers is not None and len(known) == len(values) else None

    def constant(self, node: onnx.NodeProto, index: int) -> np.ndarray | None:
        """Values of an input that is an initializer."""
        weight = self.weights.get(node.input[index]) if index < len(node.input) else None
        return None if weight is None else numpy_helper.to_array(weight)

    def unite(self, one: Axis, other: Axis) -> None:
        """Both have the same positions. Where one is of unknown length, the other one stays."""
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and len(one) == len(other):
            self.channels.unite(one, other)
        else:
            self.freeze(one, other)

    def freeze(self, *axes: Axis) -> None:
        for axis in axes:
            if isinstance(axis, np.ndarray):
                self.channels.freeze(axis)

    def freeze_tensor(self, name: str) -> None:
        self.freeze(*(self.axes.get(name) or ()))

    def freeze_numbers(self, name: str) -> None:
        """The lengths that a tensor holds are used for something else than a shape."""
        self.freeze(*(number for number in self.numbers.get(name, ()) if isinstance(number, np.ndarray)))

    def read_by(self, reader: Reader) -> Ids | None:
        """The channels that a reader sums up; None where it is not known how many there are."""
        return self.along(reader.key)

    def along(self, key: Key) -> Ids | None:
        """The channels along an axis; None where it is not known how many there are."""
        tensor, place = key
        axis = (self.axes[tensor] or [None])[place]
        return axis if isinstance(axis, np.ndarray) else None

    def is_frozen(self, axis: Axis) -> bool:
        return not isinstance(axis, np.ndarray) or not self.channels.roots(axis).any()

    def sizes(self, name: str, count: int) -> Axes:
        """The last axes of a tensor as they are declared, none of which carries channels."""
        axes = fixed(name, self.declared.get(name)) or []
        if len(axes) < count:
            return [f"{name}[-{index}]" for index in range(count, 0, -1)]
        return axes[len(axes) - count :]


def stay(size: int) -> Ids:
    """An axis whose positions all stay."""
    return np.full(size, FROZEN, np.int64)


def fixed(name: str, shape: Shape | None) -> Axes | None:
    """Axes of a tensor that stay as they are; those of unknown length get a symbol of their own."""
    return None if shape is None else [_fixed(size, f"{name}[{axis}]") for axis, size in enumerate(shape)]


def _fixed(size: int | str | None, symbol: str) -> Axis:
    if isinstance(size, int):
        return stay(size) if size >= 0 else symbol
    return size if size and any(map(str.isalnum, size)) else symbol  # Paddle calls every open dimension “?”


def value_of(number: Number) -> int | str | None:
    """The number, or the symbol that stands for it."""
    return number if isinstance(number, int) else length(number)


def length(axis: Axis) -> int | str | None:
    return len(axis) if isinstance(axis, np.ndarray) else axis

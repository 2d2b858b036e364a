"""The operators: each is prepared once from its node, and then only computes.

    @operator("Conv")
    def conv(node: Node) -> Compute:
        strides = node.attribute("strides", [1, 1])                # attributes are read while planning
        return lambda x, weight, bias=None: …                      # positional tensors; None for a left-out input

    pointwise({"Relu": torch.relu, "Sin": torch.sin})              # plain functions without attributes

A family is one file of `ops/`, listed in `ops/__init__.py`. What is fixed for all of them:

- `node.attribute(name, default)`: numbers, lists, str (not bytes), tensors as NumPy arrays.
- `node.constant(i)`: input i as a NumPy array where it is a constant, else None. **A float initializer that is asked
  for this way becomes a constant**: it is not trained. Ask for settings (value of a Pad, limits of a Clip, mean and
  variance of a BatchNormalization), never for weights; `node.shape(i)` is a weight's shape, and freezes nothing.
- `node.element(i)` is the declared ONNX type of input i: the only way to tell a 4-bit type, which is held in 8 bits.
- Weights are float tensors that the file holds, as initializers or in Constant nodes, of more than one value. A single
  number is a setting, unless Conv, Gemm, PRelu, QuantizeLinear or their kin read it (`plan.LAYERS`).
- A closure returns one value, or a tuple where its node has several outputs. A sequence is a list; an empty optional
  is None.
- `node.listed("axes", 1)`: numbers that old opsets have as an attribute and new ones as an input, where they are known
  while planning; `given(known, tensor)` in the closure takes those, or reads them from the tensor.
- `host=(1,)` names inputs that stay in main memory when the graph is on a GPU: shapes, axes, indices that the closure
  turns into numbers (`numbers(tensor)`). Tensors that a closure makes go to the device of its first input.
- `node.refuse("…")` is the UnsupportedOperator to raise for a form of an operator that is not done.
- `stochastic=True`: never computed in advance.
- `node.body("then_branch")` is a graph inside; call it with its inputs and the closure's trailing arguments, which are
  the outer values that all bodies of the node read: `body([x, y], outer)` gives the list of its outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnx
import torch

from engine.differentiable.known import UnsupportedOperator

Compute: TypeAlias = Callable[..., Any]


class Body(Protocol):
    """A graph inside of a node: branches of If, bodies of Loop and Scan."""

    def __call__(self, inputs: Sequence[Any], outer: Sequence[Any]) -> list[Any]: ...


class Surroundings(Protocol):
    """What a node may ask about the graph that it stands in."""

    def constant(self, name: str) -> Any: ...

    def shape(self, name: str) -> tuple[int, ...] | None: ...

    def element(self, name: str) -> int: ...

    def body(self, node: "Node", graph: onnx.GraphProto) -> Body: ...


@dataclass
class Node:
    """One node of the graph while it is being planned."""

    proto: onnx.NodeProto
    opset: int  #: version of the node's domain
    surroundings: Surroundings
    outer: list[str] = field(default_factory=list)  #: names that the node's bodies read from outside
    attributes: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.attributes = {entry.name: _value(entry) for entry in self.proto.attribute}

    @property
    def inputs(self) -> Sequence[str]:
        """Names of the inputs; "" where one is left out."""
        return self.proto.input

    @property
    def outputs(self) -> Sequence[str]:
        return self.proto.output

    def has(self, index: int) -> bool:
        """Whether the input of this index is there."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def constant(self, index: int) -> np.ndarray | None:
        """Value of an input where it is a constant; it then stays one."""
        return self.surroundings.constant(self.inputs[index]) if self.has(index) else None

    def shape(self, index: int) -> tuple[int, ...] | None:
        """Shape of an input where it is a weight or a constant."""
        return self.surroundings.shape(self.inputs[index]) if self.has(index) else None

    def element(self, index: int) -> int:
        """Element type of an input as the model declares it; 0 (UNDEFINED) where it does not."""
        return self.surroundings.element(self.inputs[index]) if self.has(index) else 0

    def listed(self, name: str, index: int) -> list[Any] | None:
        """Numbers of an attribute, or of the constant input that replaced it; None where they are not known now."""
        if name in self.attributes:
            return self.attributes[name]
        values = self.constant(index)
        return None if values is None else numbers(values)

    def body(self, name: str) -> Body:
        return self.surroundings.body(self, self.attributes[name])

    def refuse(self, reason: str) -> UnsupportedOperator:
        return UnsupportedOperator(self.proto, reason)


def _value(entry: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, list | tuple):
        return [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in value]
    return value


Prepare: TypeAlias = Callable[[Node], Compute]


@dataclass(frozen=True)
class Operator:
    prepare: Prepare
    host: frozenset[int] = frozenset()  #: inputs that stay in main memory
    stochastic: bool = False


OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(
    *names: str, domain: str = "", host: Sequence[int] = (), stochastic: bool = False
) -> Callable[[Prepare], Prepare]:
    """Enter a function that prepares the operators of these names."""

    def enter(prepare: Prepare) -> Prepare:
        for name in names:
            OPERATORS[domain, name] = Operator(prepare, frozenset(host), stochastic)
        return prepare

    return enter


def pointwise(functions: dict[str, Compute], *, domain: str = "") -> None:
    """Enter operators that have no attributes: the function itself is what computes."""
    for name, function in functions.items():
        OPERATORS[domain, name] = Operator(lambda _, function=function: function)


def numbers(tensor: torch.Tensor | np.ndarray) -> list[Any]:
    """The values of a tensor of rank 0 or 1 as plain numbers: shapes, axes, paddings."""
    values = tensor.tolist()
    return values if isinstance(values, list) else [values]


def given(known: list[Any] | None, tensor: torch.Tensor | None) -> list[Any] | None:
    """Numbers that were known while planning, else those of a tensor; None where neither is there."""
    return known if known is not None or tensor is None else numbers(tensor)

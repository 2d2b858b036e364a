"""What the activations of a network look like: how much of them is zero, which channels are dead, what lies far out.

    zeros       share of values that are 0
    dead        channels that are 0 on all samples; nearly dead: on more than 99.9 % of positions
    outliers    share of values beyond six standard deviations; of normally distributed ones 2 in a billion are

Two passes over the samples through ONNX Runtime, one sample at a time: sums first, then what lies beyond. Memory does
not grow with the number of samples.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from engine import beside
from engine.data import Samples
from engine.errors import StepFailed
from engine.graph import (
    NO_INPUT,
    Shape,
    Wiring,
    attribute,
    give_out,
    is_standard,
    load_structure,
    save_structure,
    tensor_types,
)
from engine.measure.complexity import infer_shapes
from engine.measure.session import open_session, session_options
from engine.report import ActivationLayer
from engine.runtime import ERRORS, reason

NONLINEAR = (
    "Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu",
    "Selu", "Celu", "Gelu", "Mish", "Swish", "Softplus", "Softsign", "Erf",
)  # fmt: skip
CONVOLUTIONAL = (
    "Conv", "ConvTranspose", "DeformConv", "BatchNormalization", "InstanceNormalization", "GroupNormalization",
    "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool",
)  # fmt: skip
LINEAR = ("MatMul", "Gemm", "Einsum", "Gather", "LayerNormalization", "RMSNormalization", "LSTM", "GRU", "RNN")
RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
FARTHEST = 64  #: nodes between an activation and its layer
NEARLY = 0.999
DEVIATIONS = 6
MOST_SAMPLES = 64
REMEDY = "The statistics of activations are left out; check that the model runs on each sample."


@dataclass
class _Layer:
    """Sums over all values of one activation, by channel."""

    node: onnx.NodeProto
    axis: int  #: of the channels; -1 is the last one
    count: int = 0  #: values of one channel
    zeros: np.ndarray = field(default_factory=lambda: np.zeros(1))
    total: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    beyond: int = 0

    @property
    def tensor(self) -> str:
        return self.node.output[0]

    @property
    def values(self) -> int:
        return self.count * self.zeros.size

    @property
    def mean(self) -> float:
        return self.total / max(self.values, 1)

    @property
    def deviation(self) -> float:
        return max(self.squares / max(self.values, 1) - self.mean**2, 0.0) ** 0.5

    def add(self, values: np.ndarray) -> None:
        rows = np.moveaxis(values, self.axis, -1).reshape(-1, values.shape[self.axis]).astype(np.float64)
        self.zeros = self.zeros + np.sum(rows == 0, axis=0)
        self.count += len(rows)
        self.total, self.squares = self.total + float(rows.sum()), self.squares + float(np.square(rows).sum())
        self.low, self.high = min(self.low, float(rows.min())), max(self.high, float(rows.max()))

    def look_beyond(self, values: np.ndarray) -> None:
        self.beyond += int(np.sum(np.abs(values - self.mean) > DEVIATIONS * self.deviation))

    def described(self) -> ActivationLayer:
        dead = int(np.sum(self.zeros == self.count))
        return ActivationLayer(
            layer=self.node.name or self.node.output[0],
            operator=self.node.op_type,
            channels=self.zeros.size,
            zero_share=float(self.zeros.sum()) / self.values,
            dead=dead,
            nearly_dead=int(np.sum(self.zeros > NEARLY * self.count)) - dead,
            low=self.low,
            high=self.high,
            mean=self.mean,
            deviation=self.deviation,
            outlier_share=self.beyond / self.values,
        )


def activations(
    original: Path, samples: Samples, folder: Path, threads: int, pause: Callable[[], None]
) -> list[ActivationLayer]:
    """Of each activation of the main graph, in its order. Raises StepFailed where the model does not run."""
    model = load_structure(original)
    layers = _layers(model)
    if not layers:
        return []
    give_out(model, [layer.tensor for layer in layers])
    path = save_structure(model, folder / "activations.onnx", original)
    try:
        session = open_session(path, "cpu", session_options(threads))
        for learn in (_Layer.add, _Layer.look_beyond):
            for layer, values in _seen(session, layers, samples.first(MOST_SAMPLES), pause):
                learn(layer, values)
    except ERRORS as error:
        raise StepFailed("activations_failed", f"The model fails on a sample: {reason(error)}", REMEDY) from error
    finally:
        beside.remove(path)
    return [layer.described() for layer in layers if layer.count]


def _layers(model: onnx.ModelProto) -> list[_Layer]:
    found = [node for node in model.graph.node if is_standard(node, *NONLINEAR)]
    axes = _Axes.of(model) if found else None
    return [_Layer(node, axes.of_channels(node)) for node in found] if axes else []


@dataclass(frozen=True)
class _Axes:
    """Where the channels lie: on axis 1 behind convolutions, on the last one behind products, which is -1."""

    wiring: Wiring
    constants: AbstractSet[str]
    shapes: Mapping[str, Shape | None]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "_Axes":
        types = tensor_types(infer_shapes(model).graph)
        constants = {weight.name for weight in model.graph.initializer}
        constants |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
        return cls(Wiring.of(model.graph), constants, {name: known.shape for name, known in types.items()})

    def of_channels(self, node: onnx.NodeProto) -> int:
        """The nearest layer behind decides, and what moves axes in between."""
        moving: list[onnx.NodeProto] = []
        above: onnx.NodeProto | None = node
        for _ in range(FARTHEST):
            if above is None or is_standard(above, *CONVOLUTIONAL, *LINEAR):
                break
            if is_standard(above, "Transpose", *RESHAPING):
                moving.append(above)
            above = self.wiring.producers.get(self._followed(above))
        axis = 1 if above is not None and is_standard(above, *CONVOLUTIONAL) else -1
        for one in reversed(moving):
            axis = self._turned(one, axis) if one.op_type == "Transpose" else self._reshaped(one, axis)
        return axis

    def _followed(self, node: onnx.NodeProto) -> str:
        """The input that is no constant; of two, the one that the other is broadcast to."""
        inputs = [name for name in node.input if name and name not in self.constants]
        whole = [name for name in inputs if self.shapes.get(name) == self.shapes.get(node.output[0])]
        return next(iter([*whole, *inputs]), NO_INPUT)

    def _turned(self, node: onnx.NodeProto, axis: int) -> int:
        order = list(attribute(node, "perm", ())) or list(range(len(self.shapes.get(node.input[0]) or ())))[::-1]
        return order.index(axis % len(order)) if order else -1

    def _reshaped(self, node: onnx.NodeProto, axis: int) -> int:
        """The same axis where those in front of it or those behind it stay; else the last one."""
        before, after = (self.shapes.get(name) for name in (node.input[0], node.output[0]))
        if not before or not after:
            return -1
        axis %= len(before)
        behind = len(before) - axis
        if before[: axis + 1] == after[: axis + 1]:
            return axis
        return len(after) - behind if before[axis:] == after[-behind:] else -1


def _seen(
    session: Any, layers: Sequence[_Layer], samples: Samples, pause: Callable[[], None]
) -> Iterator[tuple[_Layer, np.ndarray]]:
    """Each activation on each sample, as far as it has channels and finite values."""
    for feeds in samples.batches(1):
        pause()
        outputs = session.run([layer.tensor for layer in layers], feeds)
        for layer, values in zip(layers, outputs, strict=True):
            if values.size and values.ndim > 1 and np.isfinite(values).all():
                yield layer, values

"""What the activations of a network look like: how much of them is zero, which channels are dead, what lies far out.

    zeros       share of values that are 0
    dead        channels that are 0 on all samples; nearly dead: on more than 99.9 % of positions
    outliers    share of values beyond six standard deviations; of normally distributed ones 2 in a billion are

Two passes over the samples through ONNX Runtime, one sample at a time: sums first, then what lies beyond. Memory does
not grow with the number of samples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from engine import beside
from engine.data import Samples
from engine.errors import StepFailed
from engine.graph import Wiring, give_out, is_standard, load_structure, save_structure
from engine.measure.session import open_session, session_options
from engine.report import ActivationLayer
from engine.runtime import ERRORS, reason

NONLINEAR = (
    "Relu", "LeakyRelu", "PRelu", "ThresholdedRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu",
    "Selu", "Celu", "Gelu", "Mish", "Swish", "Softplus", "Softsign", "Erf",
)  # fmt: skip
CONVOLUTIONAL = ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "MaxPool", "AveragePool")
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
    wiring = Wiring.of(model.graph)
    return [_Layer(node, _channel_axis(node, wiring)) for node in model.graph.node if is_standard(node, *NONLINEAR)]


def _channel_axis(node: onnx.NodeProto, wiring: Wiring) -> int:
    """1 behind convolutions, else the last one: followed upwards along first inputs for a few nodes."""
    for _ in range(4):
        if is_standard(node, *CONVOLUTIONAL):
            return 1
        above = wiring.producers.get(node.input[0]) if node.input else None
        if above is None:
            break
        node = above
    return -1


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

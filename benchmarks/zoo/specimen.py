"""A model of the zoo, and the short way to write one down."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

Weights = Mapping[str, tuple[int, ...] | np.ndarray]


@dataclass(frozen=True)
class Specimen:
    """One model: what it is, who made it, and how its file comes to be."""

    name: str
    maker: str
    write: Callable[[Path], object]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  #: of inputs whose sizes cannot be guessed


def made(text: str, weights: Weights | None = None, seed: int = 0) -> onnx.ModelProto:
    """A model from ONNX's text form. Weights given as a shape are drawn so that activations keep their size."""
    model = onnx.parser.parse_model(text)
    generator = np.random.default_rng(seed)
    for name, weight in (weights or {}).items():
        values = drawn(weight, generator) if isinstance(weight, tuple) else weight
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def drawn(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Normal values divided by the root of the fan-in: rows of a matrix, all but the first axis of a kernel."""
    fan_in = np.prod(shape[1:]) if len(shape) > 2 else shape[0] if len(shape) == 2 else 16
    return (generator.standard_normal(shape) / np.sqrt(max(fan_in, 1))).astype(np.float32)


def written(models: Mapping[str, Callable[[], onnx.ModelProto]], maker: str) -> list[Specimen]:
    """Specimens of functions that return a model."""
    return [Specimen(name, maker, _writer(build)) for name, build in models.items()]


def _writer(build: Callable[[], onnx.ModelProto]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(build().SerializeToString())

"""How the weights of layers in 8 bits become integers: to the nearest level, or by least squares."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.quantize.fitted import fitted_levels
from engine.quantize.integers import QuantizedWeight, quantize_weight
from engine.quantize.plan import Layer

Moments = Mapping[str, NDArray[np.float32]]  #: E[x xᵀ] (groups, inputs, inputs), by the name of a layer's output


@dataclass(frozen=True)
class Rounding:
    """How weights become integers: by least squares where the moments of what they meet are known."""

    moments: Moments

    def rounded(
        self, name: str, layer: Layer, weight: np.ndarray, *, scale: np.ndarray, axis: int | None, levels: int
    ) -> QuantizedWeight:
        """The weight of the layer with this name; axis: that of the scales."""
        moments = self.moments.get(name)
        if moments is None or layer.axis is None:
            return quantize_weight(weight, scale, axis, levels)
        outputs_first = np.moveaxis(weight, layer.axis, 0)
        rows = outputs_first.reshape(len(moments), -1, moments.shape[-1])
        scales = np.broadcast_to(scale.reshape(-1, 1), (len(outputs_first), 1)).reshape(len(moments), -1, 1)
        limits = np.asarray(-levels, np.float64), np.asarray(levels, np.float64)
        fitted = [
            fitted_levels(part / size, size, moment, limits)
            for part, size, moment in zip(rows, scales, moments, strict=True)
        ]
        values = np.moveaxis(np.reshape(fitted, outputs_first.shape), 0, layer.axis)
        return QuantizedWeight(np.ascontiguousarray(values).astype(np.int8), scale, axis)


TO_NEAREST = Rounding({})

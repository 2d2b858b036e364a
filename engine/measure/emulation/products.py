"""The operators that multiply 8-bit numbers, as ONNX Runtime computes them: unsigned inputs, constant signed weights.

The order of K decides which products are a pair (onnxruntime/core/providers/cpu/quantization/qlinearconv.cc):

    convolution       by position in the kernel, then by channel of the group: NHWC, whatever the layout of the tensors
    matrix product    as it is stored

A position outside of the input holds its zero point. A convolution with one channel in and one out in each group has
kernels of its own, which multiply in 32 bits; a product of two unsigned numbers, or two signed ones, is exact as well.
Each kind of product here, and 17 networks in 8 bits, were compared with ONNX Runtime 1.32 on a Haswell emulated by
qemu-user: equal bit by bit (within 5·10⁻⁷ where floats are quantized as the model runs).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import ClassVar

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view

from engine.graph import attribute
from engine.measure.emulation.pairs import Pairs, exact_sums

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Product(ABC):
    """A node that multiplies 8-bit inputs with a constant weight."""

    WEIGHT: ClassVar[int] = 3  #: where the node reads it
    ZERO: ClassVar[int] = 2  #: and the zero point of its inputs
    node: onnx.NodeProto
    stored: np.ndarray  #: the weight, as the file holds it
    saturates: bool  #: whether to sum as CPUs without VNNI do

    @staticmethod
    @abstractmethod
    def takes(rank: int) -> bool:
        """Whether weights of so many axes are computed here."""

    @property
    @abstractmethod
    def matrices(self) -> np.ndarray:
        """The weight as groups × K × N, K in the order in which it is summed."""

    @abstractmethod
    def run(self, values: Values) -> np.ndarray:
        """The output of the node."""

    @cached_property
    def pairs(self) -> list[Pairs]:
        """For each group the pairs that may saturate."""
        return [Pairs.of(matrix) for matrix in self.matrices]

    @property
    def is_at_risk(self) -> bool:
        return any(map(len, self.pairs))

    def read(self, values: Values, position: int, default: int = 0) -> np.ndarray:
        """What the node reads there; the default where it reads nothing."""
        name = self.node.input[position] if position < len(self.node.input) else ""
        return values[name] if name else np.asarray(default)

    def sums(self, group: int, inputs: np.ndarray, zero_point: np.ndarray, weight_zero: np.ndarray) -> np.ndarray:
        """N × M in int32, of uint8 inputs K × M."""
        weight = self.matrices[group]
        exact = exact_sums(inputs, int(zero_point.ravel()[0]), weight, weight_zero.astype(np.int32))
        return exact - self.pairs[group].excess(inputs, weight.shape[1]) if self.saturates else exact


class Convolution(Product):
    """QLinearConv(x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias)."""

    @staticmethod
    def takes(rank: int) -> bool:
        return rank > 2

    @cached_property
    def matrices(self) -> np.ndarray:
        groups, outputs = attribute(self.node, "group", 1), len(self.stored)
        grouped = self.stored.reshape(groups, outputs // groups, self.stored.shape[1], -1)
        return grouped.transpose(0, 3, 2, 1).reshape(groups, -1, outputs // groups)

    @property
    def is_at_risk(self) -> bool:
        is_depthwise = self.stored.shape[1] == 1 and len(self.stored) == attribute(self.node, "group", 1)
        return not is_depthwise and super().is_at_risk

    def run(self, values: Values) -> np.ndarray:
        return np.concatenate([self._image(image[None], values) for image in self.read(values, 0)])

    def _image(self, image: np.ndarray, values: Values) -> np.ndarray:
        zero_point, groups = self.read(values, 2), len(self.matrices)
        windows = self._windows(image, int(zero_point.ravel()[0]))
        per_group, sizes, sums = image.shape[1] // groups, windows.shape[2 : image.ndim], []
        weight_zero = self.read(values, 5).ravel()[:1]
        for group in range(groups):
            columns = np.moveaxis(windows[0, group * per_group : (group + 1) * per_group], 0, -1)
            columns = np.moveaxis(columns, range(len(sizes)), range(-len(sizes), 0))  # kernel × channels × positions
            inputs = np.ascontiguousarray(columns).reshape(-1, prod(sizes))
            sums.append(self.sums(group, inputs, zero_point, weight_zero))
        total = np.concatenate(sums) + self.read(values, 8).reshape(-1, 1)
        scale = self.read(values, 1).ravel() * self.read(values, 4).ravel() / self.read(values, 6).ravel()
        return requantized(total, scale[:, None], self.read(values, 7)).reshape(1, -1, *sizes)

    def _windows(self, image: np.ndarray, fill: int) -> np.ndarray:
        """What each position sees: 1 × channels × positions × kernel."""
        axes = tuple(range(2, image.ndim))
        kernel, ones = self.stored.shape[2:], [1] * len(axes)
        strides, dilations = (attribute(self.node, name, ones) for name in ("strides", "dilations"))
        spans = tuple((size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True))
        pads = self._pads(image.shape[2:], spans, strides)
        padded = np.pad(image, [(0, 0), (0, 0), *pads], constant_values=fill)
        windows = sliding_window_view(padded, spans, axis=axes)
        every = [slice(None, None, step) for step in (*strides, *dilations)]
        return windows[(slice(None), slice(None), *every)]

    def _pads(self, sizes: tuple[int, ...], spans: tuple[int, ...], strides: list[int]) -> list[tuple[int, int]]:
        automatic = attribute(self.node, "auto_pad", b"NOTSET")
        if automatic in (b"NOTSET", b"VALID"):
            given = [] if automatic == b"VALID" else attribute(self.node, "pads", [])
            given = given or [0] * (2 * len(sizes))
            return list(zip(given[: len(sizes)], given[len(sizes) :], strict=True))
        needed = [
            max((-(-size // stride) - 1) * stride + span - size, 0)
            for size, span, stride in zip(sizes, spans, strides, strict=True)
        ]
        return [(n // 2, n - n // 2) if automatic == b"SAME_UPPER" else (n - n // 2, n // 2) for n in needed]


class MatrixProduct(Product):
    """MatMulInteger(a, b, a_zero, b_zero): the sums themselves. Its kin make something of them."""

    WEIGHT: ClassVar[int] = 1
    WEIGHT_ZERO: ClassVar[int] = 3

    @staticmethod
    def takes(rank: int) -> bool:
        return rank == 2

    @cached_property
    def matrices(self) -> np.ndarray:
        is_turned = attribute(self.node, "transB", 0)
        return (self.stored.T if is_turned else self.stored)[None]

    def run(self, values: Values) -> np.ndarray:
        inputs = self.read(values, 0)
        if attribute(self.node, "transA", 0):
            inputs = inputs.T
        rows = np.ascontiguousarray(inputs.reshape(-1, inputs.shape[-1]).T)
        sums = self.sums(0, rows, self.read(values, self.ZERO), self.read(values, self.WEIGHT_ZERO).ravel())
        return self.finished(sums.T, values).reshape(*inputs.shape[:-1], -1)

    def finished(self, sums: np.ndarray, values: Values) -> np.ndarray:  # noqa: ARG002 - its kin read scales
        """What the node makes of the sums, M × N."""
        return sums


class ScaledProduct(MatrixProduct):
    """MatMulIntegerToFloat(a, b, a_scale, b_scale, a_zero, b_zero, bias)."""

    ZERO, WEIGHT_ZERO = 4, 5

    def finished(self, sums: np.ndarray, values: Values) -> np.ndarray:
        scale = (self.read(values, 2).ravel() * self.read(values, 3).ravel()).astype(np.float32)
        return sums.astype(np.float32) * scale + self.read(values, 6).astype(np.float32)


class QuantizedProduct(MatrixProduct):
    """QLinearMatMul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)."""

    WEIGHT, WEIGHT_ZERO = 3, 5

    def finished(self, sums: np.ndarray, values: Values) -> np.ndarray:
        scale = self.read(values, 1).ravel() * self.read(values, 4).ravel() / self.read(values, 6).ravel()
        return requantized(sums, scale, self.read(values, 7))


class QuantizedGemm(MatrixProduct):
    """QGemm(a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero); floats where y_scale is left out."""

    WEIGHT, WEIGHT_ZERO = 3, 5

    def finished(self, sums: np.ndarray, values: Values) -> np.ndarray:
        scale = np.float32(attribute(self.node, "alpha", 1.0)) * self.read(values, 1).ravel()
        scale = (scale * self.read(values, 4).ravel()).astype(np.float32)
        total = sums + self.read(values, 6)
        if len(self.node.input) < 8 or not self.node.input[7]:
            return total.astype(np.float32) * scale
        return requantized(total, scale / self.read(values, 7).ravel(), self.read(values, 8))


KINDS: dict[str, type[Product]] = {
    "QLinearConv": Convolution,
    "QLinearMatMul": QuantizedProduct,
    "QGemm": QuantizedGemm,
    "MatMulInteger": MatrixProduct,
    "MatMulIntegerToFloat": ScaledProduct,
}


def requantized(sums: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
    """The integers of the output, as the runtime rounds them: in float32, halves to even."""
    zero, limits = int(zero_point.ravel()[0]), np.iinfo(zero_point.dtype)
    scaled = sums.astype(np.float32) * scale.astype(np.float32)
    return (np.rint(np.clip(scaled, limits.min - zero, limits.max - zero)) + zero).astype(zero_point.dtype)

"""Signals: Fourier transforms, windows and the mel scale.

Complex numbers are a last axis of two, real ones a last axis of one. `onesided` keeps the first half of the spectrum of
a real signal, or takes it to give one back.
"""

import math

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

from engine.differentiable.elements import dtype_of
from engine.differentiable.registry import Compute, Node, operator

#: weights of 1, cos(2πn / N) and cos(4πn / N)
WINDOWS = {
    "HannWindow": (0.5, -0.5, 0.0),
    "HammingWindow": (25 / 46, -21 / 46, 0.0),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


@operator("DFT", host=(1, 2))
def dft(node: Node) -> Compute:
    inverse, onesided = bool(node.attribute("inverse", 0)), bool(node.attribute("onesided", 0))
    fixed_axis = node.attribute("axis", 1) if node.opset < 20 else -2

    def transform(x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
        along = (fixed_axis if axis is None else int(axis)) % x.dim()
        size = None if length is None else int(length)
        if inverse and onesided:
            return torch.fft.irfft(_complex(x), size, along)[..., None].to(x.dtype)
        return _pairs(
            (torch.fft.ifft if inverse else torch.fft.fft)(_complex(x), size, along), x, along, onesided=onesided
        )

    return transform


def _complex(x: Tensor) -> Tensor:
    """Complex numbers of a last axis; torch has none of half precision."""
    x = x if x.dtype == torch.float64 else x.float()
    return x[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())


def _pairs(spectrum: Tensor, like: Tensor, axis: int, *, onesided: bool) -> Tensor:
    if onesided:
        spectrum = spectrum.narrow(axis, 0, spectrum.shape[axis] // 2 + 1)
    return torch.view_as_real(spectrum).to(like.dtype)


@operator("STFT", host=(1, 3))
def stft(node: Node) -> Compute:
    onesided = bool(node.attribute("onesided", 1))

    def transform(x: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None) -> Tensor:
        whole = x.shape[1] if window is None else window.shape[0]
        frames = _complex(x).unfold(1, whole if length is None else int(length), int(step))
        frames = frames if window is None else frames * window
        return _pairs(torch.fft.fft(frames), x, 2, onesided=onesided)

    return transform


@operator(*WINDOWS, host=(0,))
def window(node: Node) -> Compute:
    constant, once, twice = WINDOWS[node.proto.op_type]
    periodic, dtype = node.attribute("periodic", 1), dtype_of(node.attribute("output_datatype", TensorProto.FLOAT))

    def make(size: Tensor) -> Tensor:
        count = int(size)
        phase = 2 * math.pi * torch.arange(count, dtype=torch.float64) / max(count if periodic else count - 1, 1)
        return (constant + once * torch.cos(phase) + twice * torch.cos(2 * phase)).to(dtype)

    return make


@operator("MelWeightMatrix", host=(0, 1, 2, 3, 4))
def mel_weight_matrix(node: Node) -> Compute:
    dtype = dtype_of(node.attribute("output_datatype", TensorProto.FLOAT))

    def make(bands: Tensor, length: Tensor, rate: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        low, high = (2595 * math.log10(1 + float(edge) / 700) for edge in (lower, upper))
        mels = low + np.arange(int(bands) + 2) * (high - low) / (int(bands) + 2)
        hertz = 700 * (10 ** (mels / 2595) - 1)
        bins = ((int(length) + 1) * hertz // int(rate)).astype(int)
        return torch.from_numpy(_triangles(bins, int(length) // 2 + 1)).to(dtype)

    return make


def _triangles(bins: np.ndarray, count: int) -> np.ndarray:
    """(frequencies, bands): each band rises from the first to the second bin of three and falls to the last."""
    matrix = np.zeros((count, len(bins) - 2))
    places = np.arange(count)
    for band, (first, top, last) in enumerate(zip(bins, bins[1:], bins[2:], strict=False)):
        rising, falling = (places >= first) & (places <= top), (places > top) & (places < last)
        matrix[rising, band] = (places[rising] - first) / (top - first) if top > first else 1.0
        matrix[falling, band] = (last - places[falling]) / (last - top)
    return matrix

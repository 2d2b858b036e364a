"""The graph that learns: its weights, and what moves them.

    w ← w + m · step      m = 0 where a kernel or matrix was zero at the beginning, so that pruned weights stay pruned

A zero counts as pruned where its weight is neither free of zeros nor all zero: weights that are drawn or learned meet
exact zero next to never, and a layer that begins with nothing else must learn. What has one axis, such as a bias, may
begin with any zeros.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from torch import Tensor

from engine.differentiable import DifferentiableGraph
from engine.graph import inlined
from engine.recover.adam import Adam, State
from engine.recover.trainable import not_learned, read_as_weights

LARGEST_NORM = 1.0  #: of all gradients together


class Student:
    """A differentiable graph in training; `taps` are inner tensors that it gives out beside its outputs.

    It computes on its device; what comes in and what is kept of it lie in main memory.
    """

    def __init__(self, model: onnx.ModelProto, taps: Sequence[str] = (), *, device: str = "cpu") -> None:
        self.graph, self._device = DifferentiableGraph(model, taps=taps).to(device), device
        plain, found = inlined(model), self.graph.weights()
        names = read_as_weights(plain)
        for name, weight in found.items():
            weight.requires_grad_(name in names and weight.dtype is torch.float32 and weight.numel() > 1)
        self.weights = {name: weight for name, weight in found.items() if weight.requires_grad}
        #: what does not learn, in words, where it is much
        self.left_out = not_learned(plain, {name: weight.shape for name, weight in found.items()}, self.weights)
        self._masks = {name: mask for name, weight in self.weights.items() if (mask := _kept(weight)) is not None}
        self.optimizer = Adam(self.weights)

    def outputs(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name."""
        return self.graph({name: value.to(self._device) for name, value in feeds.items()})

    @torch.no_grad()
    def move(self, rate: float) -> bool:
        """One step along the gradients; False, and no step, where they are not finite."""
        gradients = [self._gradient(name, weight) for name, weight in self.weights.items()]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        if not torch.isfinite(norm):
            return False
        if norm > LARGEST_NORM:
            gradients = [gradient * (LARGEST_NORM / norm) for gradient in gradients]
        self.optimizer.step(gradients, rate)
        return True

    def _gradient(self, name: str, weight: Tensor) -> Tensor:
        """Zero where the weight was pruned; Adam never moves what has no gradient."""
        if weight.grad is None:
            return torch.zeros_like(weight)
        return weight.grad * self._masks[name] if name in self._masks else weight.grad

    def forget_gradients(self) -> None:
        for weight in self.weights.values():
            weight.grad = None

    def values(self) -> State:
        """A copy of the weights."""
        return {name: weight.detach().cpu().numpy().copy() for name, weight in self.weights.items()}

    @torch.no_grad()
    def take(self, values: Mapping[str, np.ndarray]) -> None:
        """Give the weights these values."""
        for name, weight in self.weights.items():
            weight.copy_(torch.from_numpy(values[name]))


def _kept(weight: Tensor) -> Tensor | None:
    """1 where a pruned weight is left and 0 where it is gone, in its shape; None where it was not pruned."""
    axes = sum(size > 1 for size in weight.shape)
    left = weight.detach() != 0
    return left.to(weight.dtype) if axes > 1 and left.any() and not left.all() else None

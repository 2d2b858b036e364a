"""Adam (Kingma and Ba 2015), as a list of tensors that can be read and put back.

    m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²
    w ← w - rate · m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)

torch's own imports its compiler at the first step, which takes seconds. Weights do not decay: the teacher's function is
wanted, not a simpler one.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

FIRST, SECOND, EPSILON = 0.9, 0.999, 1e-8

State = dict[str, np.ndarray]


class Adam:
    """Moves weights, named for those who read its memory."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._names = list(weights)
        self._weights = [weight.detach() for weight in weights.values()]  # the same memory, out of autograd's sight
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._steps = 0
        self._first = [torch.zeros_like(weight) for weight in self._weights]
        self._second = [torch.zeros_like(weight) for weight in self._weights]

    def step(self, gradients: list[Tensor], rate: float) -> None:
        """Move along the gradients, one for each weight."""
        self._steps += 1
        torch._foreach_lerp_(self._first, gradients, 1 - FIRST)
        torch._foreach_mul_(self._second, SECOND)
        torch._foreach_addcmul_(self._second, gradients, gradients, 1 - SECOND)
        spread = [second.sqrt() for second in self._second]
        torch._foreach_div_(spread, math.sqrt(1 - SECOND**self._steps))
        torch._foreach_add_(spread, EPSILON)
        torch._foreach_addcdiv_(self._weights, self._first, spread, -rate / (1 - FIRST**self._steps))

    def memory(self) -> State:
        """A copy of all that it remembers."""
        moments = {
            f"{kind}/{name}": tensor.cpu().numpy().copy()
            for kind, tensors in (("first", self._first), ("second", self._second))
            for name, tensor in zip(self._names, tensors, strict=True)
        }
        return {"steps": np.array(self._steps), **moments}

    def remember(self, memory: Mapping[str, np.ndarray]) -> None:
        """Be as another one was when its memory was copied."""
        self._steps = int(memory["steps"])
        self._first, self._second = (
            [
                torch.from_numpy(memory[f"{kind}/{name}"].copy()).to(weight.device)
                for name, weight in zip(self._names, self._weights, strict=True)
            ]
            for kind in ("first", "second")
        )

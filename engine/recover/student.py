"""The graph that learns: its weights, and the optimizer that moves them (AdamW, Loshchilov and Hutter 2019)."""

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from torch import Tensor

from engine.differentiable import DifferentiableGraph
from engine.recover.trainable import trainable

WEIGHT_DECAY = 0.0  #: the teacher's function is wanted, not a simpler one
LARGEST_NORM = 1.0  #: of all gradients together

State = dict[str, np.ndarray]


class Student:
    """A differentiable graph in training."""

    def __init__(self, model: onnx.ModelProto, taps: tuple[str, ...] = ()) -> None:
        self.graph = DifferentiableGraph(model, taps=taps)
        names = trainable(model)
        weights = self.graph.weights()
        for name, weight in weights.items():
            weight.requires_grad_(name in names)
        self.weights = {name: weight for name, weight in weights.items() if name in names}
        self.optimizer = torch.optim.AdamW(self.weights.values(), 1e-3, weight_decay=WEIGHT_DECAY, fused=True)

    def outputs(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs and taps by name."""
        return self.graph(feeds)

    def move(self, rate: float) -> bool:
        """One step along the gradients; False, and no step, where they are not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self.weights.values(), LARGEST_NORM)
        if not torch.isfinite(norm):
            return False
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return True

    def forget_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    # ── to go back, and to go on ─────────────────────────────────────────────────────────────────────────────────────

    def values(self) -> State:
        """A copy of the weights."""
        return {name: weight.detach().numpy().copy() for name, weight in self.weights.items()}

    @torch.no_grad()
    def take(self, values: Mapping[str, np.ndarray]) -> None:
        """Give the weights these values."""
        for name, weight in self.weights.items():
            weight.copy_(torch.from_numpy(values[name]))

    def momenta(self) -> State:
        """What the optimizer remembers of each weight."""
        return {
            f"{kind}/{name}": state[kind].numpy().copy()
            for name, weight in self.weights.items()
            if (state := self.optimizer.state.get(weight))
            for kind in ("step", "exp_avg", "exp_avg_sq")
        }

    def take_momenta(self, momenta: Mapping[str, np.ndarray]) -> None:
        """Let the optimizer remember this; nothing where there is nothing."""
        self.optimizer.state.clear()
        for name, weight in self.weights.items():
            if f"step/{name}" in momenta:
                self.optimizer.state[weight] = {
                    kind: torch.from_numpy(momenta[f"{kind}/{name}"].copy())
                    for kind in ("step", "exp_avg", "exp_avg_sq")
                }

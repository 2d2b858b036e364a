"""Functions of one tensor, value by value: activations, roots, trigonometry, rounding."""

import torch

from engine.differentiable.registry import pointwise

pointwise(
    {
        "Relu": torch.relu,
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
        "Sqrt": torch.sqrt,
        "Exp": torch.exp,
        "Erf": torch.erf,
    }
)

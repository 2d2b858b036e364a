"""Random tensors: drawn anew in each run, never computed in advance; seeds of the graph are kept where it has them."""

from typing import Any

import torch
from torch import Tensor

from engine.differentiable.elements import dtype_of
from engine.differentiable.registry import Compute, Node, operator


def _dtype(node: Node, default: torch.dtype | None) -> torch.dtype | None:
    element = node.attribute("dtype")
    return default if element is None else dtype_of(element)


def _drawn(node: Node, shape: Any, dtype: torch.dtype, device: Any) -> Tensor:
    """Normal with a mean and a scale, or uniform between low and high."""
    values = torch.empty(tuple(shape), dtype=dtype, device=device)
    if node.proto.op_type.startswith("RandomNormal"):
        return values.normal_(node.attribute("mean", 0.0), node.attribute("scale", 1.0))
    return values.uniform_(node.attribute("low", 0.0), node.attribute("high", 1.0))


@operator("RandomNormal", "RandomUniform", stochastic=True)
def random(node: Node) -> Compute:
    dtype = _dtype(node, torch.float32)
    return lambda: _drawn(node, node.attribute("shape"), dtype or torch.float32, "cpu")


@operator("RandomNormalLike", "RandomUniformLike", stochastic=True)
def random_like(node: Node) -> Compute:
    """Of the shape, and unless told otherwise of the type, of another tensor."""
    dtype = _dtype(node, None)
    return lambda x: _drawn(node, x.shape, dtype or x.dtype, x.device)


@operator("Bernoulli", stochastic=True)
def bernoulli(node: Node) -> Compute:
    """One with the probability that the input says, else zero."""
    dtype = _dtype(node, None)
    return lambda x: torch.bernoulli(x).to(dtype or x.dtype)


@operator("Multinomial", stochastic=True)
def multinomial(node: Node) -> Compute:
    """Classes drawn by their unnormalized log-probabilities. x: (batch, classes)."""
    count, dtype = node.attribute("sample_size", 1), _dtype(node, torch.int32)
    return lambda x: torch.multinomial(torch.softmax(x, -1), count, replacement=True).to(dtype)

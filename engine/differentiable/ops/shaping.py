"""Other shapes for the same values: reshape, transpose, concatenate, split, expand."""

import torch

from engine.differentiable.registry import Compute, Node, numbers, operator


@operator("Reshape", host=(1,))
def reshape(node: Node) -> Compute:
    """0 keeps the size of the input's axis (unless allowzero), -1 is what is left."""
    keeps = not node.attribute("allowzero", 0)

    def compute(x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        sizes = numbers(shape)
        if keeps and 0 in sizes:
            sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
        return x.reshape(sizes)

    return compute


@operator("Shape")
def shape(node: Node) -> Compute:
    """Sizes of the axes from start to end, as int64 in main memory."""
    start, end = node.attribute("start", 0), node.attribute("end", None)
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


@operator("Identity")
def identity(_node: Node) -> Compute:
    return lambda x: x


@operator("Transpose")
def transpose(node: Node) -> Compute:
    order = node.attribute("perm")
    if order is None:
        return lambda x: x.permute(*reversed(range(x.dim())))
    return lambda x: x.permute(order)

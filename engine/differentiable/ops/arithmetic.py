"""Arithmetic of two or more tensors, comparisons, and products of matrices."""

import torch

from engine.differentiable.registry import Compute, Node, operator, pointwise

pointwise({"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "MatMul": torch.matmul})


@operator("Gemm")
def gemm(node: Node) -> Compute:
    """alpha · A B + beta · C, each of A and B transposed on request."""
    first, second = node.attribute("transA", 0), node.attribute("transB", 0)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)

    def compute(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        a, b = (a.mT if first else a), (b.mT if second else b)
        if c is None:
            return alpha * (a @ b)
        return torch.addmm(c, a, b, beta=beta, alpha=alpha)

    return compute

"""What scikit-learn's converters put before and behind a network: scaling, normalizing, thresholds, linear regression.

    Scaler       (x − offset) · scale          for each column, or for all
    Normalizer   rows divided by their largest value, by their sum of magnitudes, or by their length
Their numbers are attributes and stay; gradients go through to the network.
"""

import torch
from torch import Tensor

from engine.differentiable.registry import Compute, Node, operator

DOMAIN = "ai.onnx.ml"


@operator("Scaler", domain=DOMAIN)
def scaler(node: Node) -> Compute:
    offset, scale = (torch.tensor(node.attribute(name)) for name in ("offset", "scale"))
    return lambda x: (x.float() - offset.to(x.device)) * scale.to(x.device)


@operator("Normalizer", domain=DOMAIN)
def normalizer(node: Node) -> Compute:
    norm = node.attribute("norm", "MAX")

    def normalize(x: Tensor) -> Tensor:
        """A row whose divisor is zero stays as it is."""
        x = x.float()
        if norm == "MAX":
            divisor = x.amax(1, keepdim=True)
        else:
            divisor = torch.linalg.vector_norm(x, 1 if norm == "L1" else 2, 1, keepdim=True)
        return x / torch.where(divisor == 0, 1.0, divisor)

    return normalize


@operator("Binarizer", domain=DOMAIN)
def binarizer(node: Node) -> Compute:
    threshold = node.attribute("threshold", 0.0)
    return lambda x: (x > threshold).to(x.dtype)


@operator("LinearRegressor", domain=DOMAIN)
def linear_regressor(node: Node) -> Compute:
    if node.attribute("post_transform", "NONE") != "NONE":
        raise node.refuse("a transform behind it")
    targets = node.attribute("targets", 1)
    weight = torch.tensor(node.attribute("coefficients")).reshape(targets, -1)
    bias = torch.tensor(node.attribute("intercepts", [0.0] * targets))
    return lambda x: torch.nn.functional.linear(x.float(), weight.to(x.device), bias.to(x.device))

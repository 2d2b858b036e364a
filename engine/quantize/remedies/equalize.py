"""Cross-layer equalization: weight ranges of layers that follow each other, evened out channel by channel.

    W₁[c] / s_c,  b₁[c] / s_c,  W₂[:, c] · s_c          s_c = √(r₁[c] / r₂[c]),  r the largest weight of the channel

behind which both layers have the range √(r₁ r₂) in each channel. The outputs stay the same, as long as all that lies
between the layers is homogeneous: Relu and pooling are, Sigmoid, HardSwish and the upper bound of Relu6 are not. Layers
in a row are gone over until nothing moves any more.

Pays where channels differ much and weights have one scale per tensor, above all in depthwise networks. Needs no data.
Nagel et al. 2019, “Data-free quantization through weight equalization and bias correction”, §4.1.
"""

import numpy as np
import onnx

from engine.quantize.remedies.channels import Channels, Place

MOST_ROUNDS = 100
SETTLED = 0.01  #: largest change of a factor's logarithm in the last round

Kernels = dict[str, np.ndarray]  #: by the name of a layer's output: (groups, outputs of a group, inputs of a group)


def equalized(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A copy with the same outputs and evener weights; None where no two layers follow each other like that."""
    channels = Channels(model)
    places = [place for place in channels.places() if place.alone and place.source and place.source.is_layer]
    for place, factors in zip(places, _balanced(places, channels), strict=True):
        channels.rescale(place, factors)
    return channels.draft.finished() if places else None


def _balanced(places: list[Place], channels: Channels) -> list[np.ndarray]:
    """Factors for each place under which every channel has the same range before it and behind it."""
    kernels = {layer.output[0]: channels.kernel(layer) for place in places for layer in _layers(place)}
    found = [np.ones(place.channels) for place in places]
    for _ in range(MOST_ROUNDS):
        steps = [_step(place, kernels) for place in places]
        found = [factors * step for factors, step in zip(found, steps, strict=True)]
        if all(np.abs(np.log(step)).max(initial=0) < SETTLED for step in steps):
            break
    return found


def _layers(place: Place) -> list[onnx.NodeProto]:
    return [place.source.node, *place.readers] if place.source else []


def _step(place: Place, kernels: Kernels) -> np.ndarray:
    """Factors that even out one place as it stands; the kernels around it are scaled by them."""
    before, *behind = _layers(place)
    made = kernels[before.output[0]].max(axis=2).ravel()
    read = np.max([_read(kernels[layer.output[0]], place.channels) for layer in behind], axis=0)
    alive = (made > 0) & (read > 0)
    factors = np.sqrt(np.divide(made, read, out=np.ones_like(made), where=alive))
    shape = kernels[before.output[0]].shape
    kernels[before.output[0]] /= factors.reshape(*shape[:2], 1)
    for layer in behind:
        groups, _, inputs = kernels[layer.output[0]].shape
        kernels[layer.output[0]] *= np.repeat(factors, place.inputs // place.channels).reshape(groups, 1, inputs)
    return factors


def _read(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The largest weight that each channel meets."""
    return kernel.max(axis=1).reshape(channels, -1).max(axis=1)

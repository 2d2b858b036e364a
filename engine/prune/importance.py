"""How much each channel matters, as one number per channel that compares inside of a group.

    magnitude     Σ over weights  |W_c|² / mean |W|²           W_c the slice of a weight that belongs to the channel
    activations   Σ over readers  Var[x_c] |W_c|² / Σ          the share of a layer's output that the channel brings
                  + its share of the magnitudes, where activations meet each other and no weight reads them

Magnitude needs no data (Li et al. 2017; over all weights of a group as DepGraph, Fang et al. 2023). The other asks what
a channel brings to the layers that read it: a large weight matters little where the channel hardly changes, and what
never changes can go into a bias (He et al. 2017 and Luo et al. 2017 ask the same by reconstruction).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from engine.prune.moments import Moments
from engine.prune.walk import FLOATS, Key, Reader, Walk

FEWEST_ROWS = 1000  #: samples times positions, before what is always zero is taken for dead

Scores = NDArray[np.float64]  #: one for each id; those of channels count


def magnitudes(walk: Walk) -> Scores:
    """Squared norms of all slices of weights, each weight counting the same."""
    scores, roots = np.zeros(len(walk.channels)), walk.channels.all_roots()
    for name, weight in walk.weights.items():
        if weight.data_type not in FLOATS or sum(size > 1 for size in weight.dims) < 2:
            continue
        squares = numpy_helper.to_array(weight).astype(np.float64) ** 2
        for axis, ids in enumerate(walk.axes[name] or ()):
            if isinstance(ids, np.ndarray) and roots[ids].any():
                norms = np.moveaxis(squares, axis, 0).reshape(len(ids), -1).sum(1)
                np.add.at(scores, roots[ids], norms / (norms.mean() or 1))
    return scores


def contributions(walk: Walk, seen: Mapping[Key, Moments], *, centred: bool) -> Scores:
    """What channels bring to the outputs of the layers that read them; `centred` where biases take the means."""
    scores, roots = np.zeros(len(walk.channels)), walk.channels.all_roots()
    for reader in walk.readers:
        found, ids = seen.get(reader.key), walk.read_by(reader)
        if found is None or ids is None:
            continue
        power = found.power - found.mean**2 if centred else found.power
        brought = np.maximum(power, 0) * weight_norms(walk, reader)
        np.add.at(scores, roots[ids], brought / (brought.sum() or 1))
    return scores + met(walk)


def met(walk: Walk) -> Scores:
    """What channels count where none but other activations meet them, as by q · k: their share of the magnitudes."""
    scores, roots, keys = np.zeros(len(walk.channels)), walk.channels.all_roots(), met_keys(walk)
    sizes = magnitudes(walk) if keys else scores
    for ids in map(walk.along, keys):
        channels = roots[ids]
        np.add.at(scores, channels, sizes[channels] / (sizes[channels].sum() or 1))
    return scores


def met_keys(walk: Walk) -> list[Key]:
    """Where activations meet each other along channels that may leave."""
    return [key for key in dict.fromkeys(walk.mixed) if not walk.is_frozen(walk.along(key))]


def weight_norms(walk: Walk, reader: Reader) -> NDArray[np.float64]:
    """Squared norm of what a reader multiplies each channel with."""
    weight = numpy_helper.to_array(walk.weights[reader.weight]).astype(np.float64)
    return np.concatenate([block.reshape(len(block), -1).sum(1) for block in reader.blocks(weight**2)])


def dead(walk: Walk, seen: Mapping[Key, Moments]) -> set[int]:
    """Channels that bring nothing to any layer: always zero on the samples, or read with weights of zero."""
    roots = walk.channels.all_roots()
    alive = {int(root) for key in walk.mixed if (ids := walk.along(key)) is not None for root in roots[ids]}
    silent: set[int] = set()
    for reader in walk.readers:
        found, ids = seen.get(reader.key), walk.read_by(reader)
        if found is None or ids is None:
            continue
        brought = weight_norms(walk, reader) * (found.peak if found.rows >= FEWEST_ROWS else 1)
        is_silent = brought == 0
        silent |= set(roots[ids[is_silent]].tolist())
        alive |= set(roots[ids[~is_silent]].tolist())
    return silent - alive

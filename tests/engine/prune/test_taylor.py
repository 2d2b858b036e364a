"""Importance by gradients: what the outputs hang on counts, whatever its size."""

from pathlib import Path

import numpy as np
import pytest

from engine.prune.groups import followed, groups
from engine.prune.importance import magnitudes, weight_norms
from engine.prune.moments import moments
from engine.prune.taylor import taylor
from tests.engine.prune.test_reconstruct import calibrator
from tests.models import Net


def unheard(width: int = 16, *, probabilities: bool = False) -> Net:
    """A hidden layer whose second half is large, and shifts all scores alike: no class gets likelier by it."""
    net = Net(1)
    hidden = net.op("Relu", net.linear(net.input("x", ["batch", 12]), (12, width)))
    last = np.concatenate([net.random.standard_normal((width // 2, 5)), np.full((width // 2, 5), 30)])
    scores = net.op("MatMul", hidden, net.constant(last.astype(np.float32)), name="" if probabilities else "y")
    if probabilities:
        net.op("Softmax", scores, name="y", axis=-1)
    return net.output("y", ["batch", 5])


@pytest.mark.parametrize("probabilities", [False, True])
def test_what_moves_all_scores_alike_counts_nothing(tmp_path: Path, *, probabilities: bool) -> None:
    walk = followed(unheard(probabilities=probabilities).model())
    (group,) = groups(walk)
    keys = [reader.key for reader in walk.readers if not walk.is_frozen(walk.read_by(reader))]
    scores = taylor(walk, keys, calibrator(walk, tmp_path, 64), 0)[group.channels]
    assert scores[8:].max() < 1e-3 * scores[:8].mean()
    sizes = magnitudes(walk)[group.channels]
    assert sizes[8:].min() > sizes[:8].max()


def test_of_values_it_is_the_error_that_removing_would_make(tmp_path: Path) -> None:
    """The mean square of what a channel brings to the outputs, in its ratio to that of others."""
    net = Net(2)
    hidden = net.op("Relu", net.linear(net.input("x", ["batch", 12]), (12, 16)))
    net.op("Reshape", net.op("MatMul", hidden, net.weight(16, 4)), net.constant(np.array([0, 2, 2])), name="y")
    walk = followed(net.output("y", ["batch", 2, 2]).model())
    (reader,) = (one for one in walk.readers if not walk.is_frozen(walk.read_by(one)))
    tool = calibrator(walk, tmp_path, 512)
    power = moments(walk, tool, [reader])[reader.key].power
    (group,) = groups(walk)
    scores = taylor(walk, [reader.key], tool, 0)[group.channels]
    assert np.corrcoef(scores, power * weight_norms(walk, reader))[0, 1] > 0.9

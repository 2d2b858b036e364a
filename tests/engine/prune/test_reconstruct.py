"""Layers take over what removed channels brought: exactly where that can be, else better than nothing."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.data import Samples, synthetic_samples
from engine.prune.choice import least
from engine.prune.elimination import eliminated
from engine.prune.groups import followed, groups
from engine.prune.importance import contributions, dead, magnitudes
from engine.prune.moments import Moments, moments
from engine.prune.reconstruct import reconstructed
from engine.prune.surgery import without
from engine.prune.walk import Walk
from engine.quantize.calibrate import Calibrator
from engine.signature import Signature
from engine.steps.base import never_pause
from tests.engine.prune.running import outputs
from tests.models import Net, recurrent


def calibrator(walk: Walk, folder: Path, count: int = 256) -> Calibrator:
    return Calibrator(walk.model, made_up(walk.model, count), folder, 1, never_pause)


def made_up(model: onnx.ModelProto, count: int = 256) -> Samples:
    return synthetic_samples(Signature.of(model), count, 0)


def echoing(width: int = 8) -> Net:
    """A hidden layer whose second half repeats the first, twice as large and shifted."""
    net = Net(1)
    x = net.input("x", ["batch", 12])
    first, shift = net.random.standard_normal((2, 12, width)).astype(np.float32)[0], np.float32(0.7)
    hidden = net.op("MatMul", x, net.constant(np.concatenate([first, 2 * first], axis=1)))
    hidden = net.op("Add", hidden, net.constant(np.repeat(np.array([0, shift], np.float32), width)))
    net.gemm(hidden, (2 * width, 5), name="y")
    return net.output("y", ["batch", 5])


def test_what_other_channels_hold_too_is_taken_over_without_loss(tmp_path: Path) -> None:
    walk = followed(echoing().model())
    (group,) = groups(walk)
    removed = group.channels[8:]
    tool = calibrator(walk, tmp_path)
    rebuilt = reconstructed(walk, removed, moments(walk, tool, walk.readers[1:]), tool)
    samples = made_up(walk.model)
    (before,), (after,) = outputs(walk.model, samples), outputs(rebuilt, samples)
    assert np.abs(before - after).max() < 0.02 * np.abs(before).max()
    assert np.abs(before - outputs(without(walk, removed), samples)[0]).max() > 0.2 * np.abs(before).max()


@pytest.mark.parametrize("net", [recurrent(width=32), echoing()])
def test_outputs_get_closer(net: Net, tmp_path: Path) -> None:
    walk = followed(net.model())
    (group,) = groups(walk)
    tool = calibrator(walk, tmp_path)
    seen = moments(walk, tool, [reader for reader in walk.readers if not walk.is_frozen(walk.read_by(reader))])
    removed = group.channels[np.argsort(contributions(walk, seen, centred=True)[group.channels])][: len(group) // 2]
    samples = made_up(walk.model, 64)
    (wanted,) = outputs(walk.model, samples)
    errors = [
        float(((outputs(model, samples)[0] - wanted) ** 2).mean())
        for model in (reconstructed(walk, removed, seen, tool), without(walk, removed))
    ]
    assert errors[0] < 0.5 * errors[1]


def test_the_channel_that_moves_its_readers_most_counts_most() -> None:
    walk = followed(echoing().model())
    (group,) = groups(walk)
    (reader,) = (one for one in walk.readers if not walk.is_frozen(walk.read_by(one)))
    power = np.full(16, 1.0)
    power[3] = 100
    seen = {(reader.tensor, reader.axis): Moments(np.zeros(16), np.diag(power), power**0.5, rows=5000)}
    assert np.argmax(contributions(walk, seen, centred=True)[group.channels]) == 3
    assert magnitudes(walk)[group.channels[8:]].sum() > magnitudes(walk)[group.channels[:8]].sum()


def test_zeros_on_a_few_rows_do_not_make_a_channel_dead() -> None:
    walk = followed(echoing().model())
    (group,) = groups(walk)
    (reader,) = (one for one in walk.readers if not walk.is_frozen(walk.read_by(one)))
    power = np.array([0.0] + [1.0] * 15)
    silent = {reader.key: Moments(np.zeros(16), np.diag(power), power, rows=999)}
    assert dead(walk, silent) == set()
    next(iter(silent.values())).rows = 1000
    assert dead(walk, silent) == {int(group.channels[0])}


def test_of_two_channels_that_say_the_same_one_stays(tmp_path: Path) -> None:
    walk = followed(echoing().model())
    (group,) = groups(walk)
    tool = calibrator(walk, tmp_path)
    seen = moments(walk, tool, [reader for reader in walk.readers if not walk.is_frozen(walk.read_by(reader))])
    removed = least([group], eliminated(walk, [group], seen, [8]), [8])
    places = [list(group.channels).index(channel) for channel in removed]
    assert sorted(place % 8 for place in places) == list(range(8))

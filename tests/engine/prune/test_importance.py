"""Whatever reads channels, those that hardly matter leave first."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.zoo.specimen import made
from engine.data import synthetic_samples
from engine.data.fit import fit_samples
from engine.graph import save
from engine.recipe import Importance, PruneChannels
from engine.signature import Signature
from engine.steps import Skipped
from tests.engine.prune.running import outputs
from tests.engine.prune.test_odd_graphs import HEAD, stepped
from tests.engine.steps.outcome import run

FAINT = 1e-3
WAYS = [
    PruneChannels(),
    PruneChannels(reconstruct=False),
    PruneChannels(importance=Importance.TAYLOR, reconstruct=False),
    PruneChannels(macs_share=0.6),
]


def half_faint(shape: tuple[int, ...], axis: int, period: int | None = None) -> np.ndarray:
    """A weight of which the last half of the channels does next to nothing; of each period, where there are several."""
    weight = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32) / np.sqrt(np.float32(shape[0]))
    places = np.arange(shape[axis]) % (period or shape[axis]) >= (period or shape[axis]) // 2
    np.moveaxis(weight, axis, 0)[places] *= FAINT
    return weight


GRAPHS: dict[str, onnx.ModelProto] = {
    "a product for each expert": made(
        f"{HEAD} g (float[4,6,16] x) => (float[4,6,5] y) {{ a = MatMul (x, w1) r = Relu (a) y = MatMul (r, w2) }}",
        {"w1": half_faint((4, 16, 32), 2), "w2": half_faint((4, 32, 5), 1)},
    ),
    "weights on the left": made(
        f"{HEAD} g (float[N,12,6] x) => (float[N,5,6] y) {{ a = MatMul (w1, x) r = Relu (a) y = MatMul (w2, r) }}",
        {"w1": half_faint((32, 12), 0), "w2": half_faint((5, 32), 1)},
    ),
    "a grouped transposed convolution": made(
        f"""{HEAD} g (float[N,3,8,8] x) => (float[N,8,16,16] y) {{ a = Conv<pads=[1,1,1,1]> (x, w1) r = Relu (a)
        y = ConvTranspose<group=2,strides=[2,2]> (r, w2) }}""",
        {"w1": half_faint((16, 3, 3, 3), 0, 8), "w2": half_faint((16, 4, 2, 2), 0, 8)},
    ),
    "sums over named axes": made(
        f"""{HEAD} g (float[N,6,16] x) => (float[N,6,5] y) {{ a = Einsum<equation="bte,eh->bth"> (x, w1) r = Relu (a)
        y = Einsum<equation="bth,hc->btc"> (r, w2) }}""",
        {"w1": half_faint((16, 32), 1), "w2": half_faint((32, 5), 0)},
    ),
    "queries that meet keys": made(
        f"""{HEAD} g (float[N,6,16] x) => (float[N,6,16] y) {{ q = MatMul (x, w1) k = MatMul (x, w2)
        t = Transpose<perm=[0,2,1]> (k) s = MatMul (q, t) p = Softmax<axis=-1> (s) y = MatMul (p, x) }}""",
        {"w1": half_faint((16, 32), 1), "w2": half_faint((16, 32), 1)},
    ),
}


@pytest.mark.parametrize("way", WAYS, ids=["eliminated", "contributions", "taylor", "macs"])
@pytest.mark.parametrize("name", GRAPHS)
def test_the_faint_half_leaves(name: str, way: PruneChannels, tmp_path: Path) -> None:
    model = GRAPHS[name]
    narrower = stepped(way, model, tmp_path)
    assert narrower is not None
    samples = synthetic_samples(Signature.of(model), 4, 0)
    (before,), (after,) = outputs(model, samples), outputs(narrower, samples)
    assert np.abs(before - after).max() < 0.01 * np.abs(before).max()


def test_a_channel_that_speaks_at_one_place_of_a_map_is_not_dead(tmp_path: Path) -> None:
    """Ordinary channels, and as many that only a bright spot wakes, far between the positions that sums look at."""
    model = made(
        f"""{HEAD} g (float[N,1,48,48] x) => (float[N,5,48,48] y) {{ a = Conv (x, w1, b) r = Relu (a)
        y = Conv (r, w2) }}""",
        {"w1": np.ones((16, 1, 1, 1), np.float32), "b": np.float32([0] * 8 + [-5] * 8), "w2": (5, 16, 1, 1)},
    )
    path = save(model, tmp_path / "model.onnx")
    images = np.random.default_rng(0).uniform(0, 1, (16, 1, 48, 48)).astype(np.float32)
    dark = fit_samples({"x": images.copy()}, Signature.of(model), None)
    images[:, 0, 10, 7] = 12
    bright = fit_samples({"x": images}, Signature.of(model), None)
    assert isinstance(run(PruneChannels(ratio=0), path, tmp_path / "dark", samples=dark), list)
    assert isinstance(run(PruneChannels(ratio=0), path, tmp_path / "bright", samples=bright), Skipped)

"""The training twin: it computes what the 8-bit graph computes, and what it learns fits into that graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from engine.data import Samples, synthetic_samples
from engine.differentiable import DifferentiableGraph
from engine.graph import load, save, weights_of
from engine.quantize.twin import STEP, Twin, refusal
from engine.recipe import Layout, PruneWeights, QuantizeStatic, QuantizeWeights, Range, Scales, WeightLayout
from engine.signature import Signature
from tests.engine.steps.outcome import FIXED, fused, outputs, variants
from tests.models import Net, depthwise_cnn, mlp, residual_cnn, small_cnn

SAMPLES = synthetic_samples(Signature.of(residual_cnn().model()), 64, 1)
COARSE = FIXED.model_copy(update={"weight_scales": Scales.PER_TENSOR})


def quantized(step: QuantizeStatic, folder: Path) -> Path:
    return quantized_of(residual_cnn(), step, folder)


def quantized_of(net: Net, step: QuantizeStatic, folder: Path) -> Path:
    (variant,) = variants(step, net.save(folder / "model.onnx"), folder / "static")
    return variant.path


def with_weights_moved(twin: Twin, factor: float) -> onnx.ModelProto:
    """As a training might leave it: all weights larger, and no whole numbers of levels any more."""
    return changed(twin, "_learning", lambda values: values * np.float32(factor))


def with_scales_moved(twin: Twin, *, low: float = -0.02, high: float = 0.02) -> onnx.ModelProto:
    """As a training might leave them: each by a factor of its own."""
    random = np.random.default_rng(0)
    return changed(twin, "_scale_learning", lambda values: random.uniform(low, high, values.shape).astype(np.float32))


def changed(twin: Twin, ending: str, change: Callable[[np.ndarray], np.ndarray]) -> onnx.ModelProto:
    """The twin with other values of what is learned."""
    moved = onnx.ModelProto.FromString(twin.model.SerializeToString())
    for weight in moved.graph.initializer:
        if weight.name.endswith(ending):
            weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight)), weight.name))
    return moved


def scales(model: onnx.ModelProto) -> np.ndarray:
    stored = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    return np.concatenate([numpy_helper.to_array(one).ravel() for one in stored])


def computed(model: onnx.ModelProto, samples: Samples = SAMPLES) -> np.ndarray:
    """The scores by torch, where no sums of 8-bit products saturate."""
    feeds = {name: torch.from_numpy(np.array(array)) for name, array in next(samples.batches(len(samples))).items()}
    with torch.no_grad():
        return DifferentiableGraph(model)(feeds)["scores"].numpy().ravel()


def noise_db(expected: np.ndarray, actual: np.ndarray) -> float:
    """Noise over signal."""
    return float(10 * np.log10(np.sum((expected - actual) ** 2) / np.sum(expected**2)))


def integers(model: onnx.ModelProto) -> list[np.ndarray]:
    """The weights of an 8-bit graph."""
    stored = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8]
    return [numpy_helper.to_array(one) for one in stored if len(one.dims) > 1]


@pytest.mark.parametrize("step", [FIXED, COARSE], ids=["per_channel", "per_tensor"])
def test_the_runtime_computes_what_the_twin_has_learned(step: QuantizeStatic, tmp_path: Path) -> None:
    twin = Twin(load(quantized(step, tmp_path)))
    moved = with_weights_moved(twin, 0.83)
    (served,) = outputs(save(twin.rounded(moved), tmp_path / "rounded.onnx"), SAMPLES)
    assert noise_db(computed(moved), served) < -30
    assert noise_db(computed(twin.model), served) > -20


@pytest.mark.parametrize("step", [FIXED, COARSE], ids=["per_channel", "per_tensor"])
def test_a_twin_whose_scales_learn_begins_as_the_graph_it_was_made_of(step: QuantizeStatic, tmp_path: Path) -> None:
    stored = load(quantized(step, tmp_path))
    twin = Twin(stored, learn_scales=True)
    assert noise_db(computed(Twin(stored).model), computed(twin.model)) < -50  # a value half way may fall either way
    assert twin.rounded(twin.model) == stored


@pytest.mark.parametrize("step", [FIXED, COARSE], ids=["per_channel", "per_tensor"])
def test_the_runtime_computes_with_the_scales_that_were_learned(step: QuantizeStatic, tmp_path: Path) -> None:
    stored = load(quantized(step, tmp_path))
    twin = Twin(stored, learn_scales=True)
    moved = with_scales_moved(twin)
    rounded = twin.rounded(moved)
    (served,) = outputs(save(rounded, tmp_path / "rounded.onnx"), SAMPLES)
    assert noise_db(computed(moved), served) < -30
    assert noise_db(computed(stored), served) > -20
    assert not np.array_equal(scales(stored), scales(rounded))


def test_scales_around_what_only_moves_integers_stay_equal(tmp_path: Path) -> None:
    path = quantized_of(small_cnn(), FIXED, tmp_path)
    twin = Twin(load(path), learn_scales=True)
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    moved = save(twin.rounded(with_scales_moved(twin)), tmp_path / "moved.onnx")
    assert fused(moved, after) == fused(path, before)


def test_a_range_behind_a_clip_does_not_outgrow_it(tmp_path: Path) -> None:
    path = quantized_of(depthwise_cnn(), FIXED, tmp_path)
    twin = Twin(load(path), learn_scales=True)
    grown = save(twin.rounded(with_scales_moved(twin, low=0.02, high=0.03)), tmp_path / "grown.onnx")
    assert "Clip" not in fused(path, tmp_path)
    assert "Clip" not in fused(grown, tmp_path)


@pytest.mark.parametrize("learn_scales", [False, True])
def test_four_bit_weights_in_blocks_have_a_twin(learn_scales: bool, tmp_path: Path) -> None:
    model = mlp().save(tmp_path / "model.onnx")
    step = QuantizeWeights(bits=4, layout=WeightLayout.DEQUANTIZE, block_size=16)
    (variant,) = variants(step, model, tmp_path / "packed")
    stored = load(variant.path)
    twin = Twin(stored, learn_scales=learn_scales)
    assert twin.rounded(twin.model) == stored
    moved = with_weights_moved(twin, 0.8)
    rounded = save(twin.rounded(moved), tmp_path / "rounded.onnx")
    samples = synthetic_samples(Signature.of(load(model)), 64, 1)
    (served,) = outputs(rounded, samples)
    assert noise_db(computed(moved, samples), served) < -40
    assert fused(rounded, tmp_path) == fused(variant.path, tmp_path)


@pytest.mark.parametrize(("weight_range", "levels"), [(Range.REDUCED, 64), (Range.FULL, 127)])
def test_weights_keep_to_their_range_however_far_they_go(weight_range: Range, levels: int, tmp_path: Path) -> None:
    twin = Twin(load(quantized(FIXED.model_copy(update={"weight_range": weight_range}), tmp_path)))
    moved = with_weights_moved(twin, 1.5)
    rounded = twin.rounded(moved)
    assert {int(np.abs(weight.astype(int)).max()) for weight in integers(rounded)} == {levels}
    assert noise_db(computed(moved), computed(rounded)) < -30


def test_it_begins_with_the_floats_that_were_rounded(tmp_path: Path) -> None:
    model = mlp().save(tmp_path / "model.onnx")
    floats = {name: numpy_helper.to_array(weight) for name, weight in weights_of(load(model)).items()}
    (variant,) = variants(FIXED, model, tmp_path / "static")
    twin = Twin(load(variant.path), floats)
    begun = [numpy_helper.to_array(one) for one in twin.model.graph.initializer if one.name.endswith("_learning")]
    assert any(bool((values % STEP).any()) for values in begun if values.ndim > 1)
    assert twin.rounded(twin.model) == load(variant.path)


def test_just_what_was_pruned_is_exactly_zero(tmp_path: Path) -> None:
    """For zeros stay as they are in a training, and those that rounding made shall learn."""
    model = mlp().save(tmp_path / "model.onnx")
    (pruned,) = variants(PruneWeights(ratio=0.5), model, tmp_path / "pruned")
    for path, share in ((model, 0.0), (pruned.path, 0.5)):
        (static,) = variants(FIXED, path, tmp_path / f"static-{share}")
        floats = {name: numpy_helper.to_array(weight) for name, weight in weights_of(load(path)).items()}
        for known in ({}, floats):
            twin = Twin(load(static.path), known)
            begun = weights_of(twin.model).values()
            tables = [numpy_helper.to_array(one) for one in begun if "_learning" in one.name and len(one.dims) > 1]
            large = np.concatenate([values.ravel() for values in tables if values.size > 1024])
            assert np.mean(large == 0) == pytest.approx(share, abs=0.03)
            assert share > 0 or large.all()
            assert twin.rounded(twin.model) == load(static.path)


def test_integers_without_floats_behind_them_are_refused(tmp_path: Path) -> None:
    packed = quantized(FIXED.model_copy(update={"layout": Layout.QOPERATOR}), tmp_path)
    reason = refusal(load(packed))
    assert reason is not None and "layout qdq" in reason

"""The training twin: it computes what the 8-bit graph computes, and what it learns fits into that graph."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from engine.data import synthetic_samples
from engine.differentiable import DifferentiableGraph
from engine.graph import load, save, weights_of
from engine.quantize.twin import STEP, Twin, refusal
from engine.recipe import Layout, QuantizeStatic, Range, Scales
from engine.signature import Signature
from tests.engine.steps.outcome import FIXED, outputs, variants
from tests.models import mlp, residual_cnn

SAMPLES = synthetic_samples(Signature.of(residual_cnn().model()), 64, 1)
COARSE = FIXED.model_copy(update={"weight_scales": Scales.PER_TENSOR})


def quantized(step: QuantizeStatic, folder: Path) -> Path:
    (variant,) = variants(step, residual_cnn().save(folder / "model.onnx"), folder / "static")
    return variant.path


def with_weights_moved(twin: Twin, factor: float) -> onnx.ModelProto:
    """As a training might leave it: all weights larger, and no whole numbers of levels any more."""
    moved = onnx.ModelProto.FromString(twin.model.SerializeToString())
    for weight in moved.graph.initializer:
        if weight.name.endswith("_learning"):
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    return moved


def computed(model: onnx.ModelProto) -> np.ndarray:
    """The scores by torch, where no sums of 8-bit products saturate."""
    feeds = {name: torch.from_numpy(np.array(array)) for name, array in next(SAMPLES.batches(len(SAMPLES))).items()}
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


def test_integers_without_floats_behind_them_are_refused(tmp_path: Path) -> None:
    packed = quantized(FIXED.model_copy(update={"layout": Layout.QOPERATOR}), tmp_path)
    reason = refusal(load(packed))
    assert reason is not None and "layout qdq" in reason

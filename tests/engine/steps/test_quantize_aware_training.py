"""Quantization-aware training: the graph that is served learns, and stays the graph that quantize_static writes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engine.graph import load, save
from engine.measure.glimpse import Glimpse
from engine.quantize.prepare import prepared
from engine.quantize.remedies.channels import Channels
from engine.recipe import (
    Calibration,
    EightBits,
    Layout,
    QuantizeAwareTraining,
    QuantizeStatic,
    QuantizeWeights,
    Scales,
    Target,
    WeightLayout,
)
from engine.steps import STEPS, StepContext, Variant
from tests.engine.steps.outcome import FIXED, made_up, run, sqnr_db
from tests.models import Net, depthwise_cnn, mlp, residual_cnn, small_cnn, transformer

SAMPLES = 128
FORMAT = {name: getattr(FIXED, name) for name in EightBits.model_fields}
TRAINING = QuantizeAwareTraining(**FORMAT, steps=100, batch_size=16, learning_rate=1e-3)


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """A network that eight bits with one scale per tensor ruin, since its channels are of very unequal size."""
    path = small_cnn().save(tmp_path / "even.onnx")
    graph = prepared(path, made_up(path), tmp_path)
    assert not isinstance(graph, str)
    channels, random = Channels(graph), np.random.default_rng(0)
    for place in channels.places():
        if place.alone and place.source is not None and place.source.is_layer:
            channels.rescale(place, np.exp(random.normal(0, 1, place.channels)))
    return save(channels.draft.finished(), tmp_path / "uneven.onnx")


def quantized(step: QuantizeStatic, model: Path, folder: Path) -> Path:
    """What `quantize_static` makes of the same samples."""
    outcome = run(step, model, folder, samples=made_up(model, SAMPLES))
    assert isinstance(outcome, list), outcome
    return outcome[0].path


def trained(
    step: QuantizeAwareTraining,
    model: Path,
    folder: Path,
    *,
    original: Path | None = None,
    kept: Path | None = None,
    glimpse: bool = False,
) -> Variant:
    folder.mkdir(exist_ok=True)
    samples = made_up(model, SAMPLES)
    look = Glimpse(model, samples, Target(), folder / "glimpse") if glimpse else None
    context = StepContext(samples, folder, Target(), 0, glimpse=look, original=original, cores=1, kept=kept)
    outcome = STEPS[QuantizeAwareTraining].run(step, model, context)
    assert isinstance(outcome, list), outcome
    return outcome[0]


def with_wide_ranges(model: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """The 8-bit graph with scales of activations, and of biases with them, that use few of their levels."""
    sources = {name: node for node in model.graph.node for name in node.output}
    stored = {weight.name: weight for weight in model.graph.initializer}
    biases = {node.input[2] for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            put(stored[node.input[1]], lambda values: values * np.float32(factor))
        if node.op_type == "DequantizeLinear" and node.output[0] in biases and node.input[0] not in sources:
            put(stored[node.input[0]], lambda values: np.rint(values / factor).astype(np.int32))
            put(stored[node.input[1]], lambda values: values * np.float32(factor))
    return model


def put(weight: onnx.TensorProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight)), weight.name))


def structure(path: Path) -> onnx.ModelProto:
    """All of a file but the values of its weights and biases."""
    model = load(path)
    for weight in model.graph.initializer:
        if not weight.name.endswith(("_scale", "_zero_point")):
            weight.raw_data = b""
    return model


def test_training_wins_back_what_a_single_scale_takes(uneven: Path, tmp_path: Path) -> None:
    coarse = {"weight_scales": Scales.PER_TENSOR}
    untrained = quantized(FIXED.model_copy(update=coarse), uneven, tmp_path / "untrained")
    variant = trained(TRAINING.model_copy(update=coarse), uneven, tmp_path / "trained")
    assert sqnr_db(uneven, variant.path) > sqnr_db(uneven, untrained) + 6


def test_scales_that_learn_mend_ranges_that_are_far_too_wide(tmp_path: Path) -> None:
    model = small_cnn().save(tmp_path / "model.onnx")
    wide = with_wide_ranges(load(quantized(FIXED, model, tmp_path / "static")), 16)
    path = save(wide, tmp_path / "wide.onnx")
    fixed, learned = (
        trained(TRAINING.model_copy(update={"learn_scales": learn}), path, tmp_path / str(learn), original=model)
        for learn in (False, True)
    )
    assert sqnr_db(model, learned.path) > sqnr_db(model, fixed.path) + 3


def test_four_bit_weights_learn_in_the_blocks_they_are_stored_in(tmp_path: Path) -> None:
    model = mlp().save(tmp_path / "model.onnx")
    step = QuantizeWeights(bits=4, layout=WeightLayout.DEQUANTIZE, fit_rounding=False)
    outcome = run(step, model, tmp_path / "packed", samples=made_up(model, SAMPLES))
    assert isinstance(outcome, list)
    variant = trained(TRAINING, outcome[0].path, tmp_path / "trained", original=model)
    assert sqnr_db(model, variant.path) > sqnr_db(model, outcome[0].path) + 3
    assert variant.path.stat().st_size == outcome[0].path.stat().st_size


@pytest.mark.parametrize("net", [small_cnn, residual_cnn, depthwise_cnn, mlp, transformer])
def test_the_file_is_the_one_that_quantize_static_writes_with_other_weights(
    net: Callable[[], Net], tmp_path: Path
) -> None:
    model = net().save(tmp_path / "model.onnx")
    untrained = quantized(FIXED, model, tmp_path / "untrained")
    variant = trained(TRAINING.model_copy(update={"steps": 30}), model, tmp_path / "trained")
    assert structure(variant.path) == structure(untrained)
    assert load(variant.path) != load(untrained)


def test_a_model_that_is_quantized_already_is_trained_as_it_is(uneven: Path, tmp_path: Path) -> None:
    before = quantized(FIXED.model_copy(update={"weight_scales": Scales.PER_TENSOR}), uneven, tmp_path / "static")
    variant = trained(TRAINING, before, tmp_path / "trained", original=uneven)
    assert structure(variant.path) == structure(before)
    assert sqnr_db(uneven, variant.path) > sqnr_db(uneven, before) + 3


def test_the_same_options_make_the_same_file(tmp_path: Path) -> None:
    model = small_cnn().save(tmp_path / "model.onnx")
    step = TRAINING.model_copy(update={"steps": 20})
    first, again = (trained(step, model, tmp_path / name) for name in ("first", "again"))
    assert first.path.read_bytes() == again.path.read_bytes()
    assert first.training is not None
    assert first.label == again.label and first.label.endswith(f"trained in {first.training.steps} steps")


def test_a_second_attempt_trains_the_format_that_the_first_one_chose(tmp_path: Path) -> None:
    model = small_cnn().save(tmp_path / "model.onnx")
    step = TRAINING.model_copy(update={"calibration": Calibration.AUTO, "weight_scales": Scales.AUTO, "steps": 10})
    kept = tmp_path / "kept"
    first = trained(step, model, tmp_path / "first", kept=kept, glimpse=True)
    again = trained(step, model, tmp_path / "again", kept=kept)  # without a quick look there is nothing to choose by
    assert again.step == first.step
    assert again.path.read_bytes() == first.path.read_bytes()


def test_integers_without_floats_behind_them_are_refused(tmp_path: Path) -> None:
    model = small_cnn().save(tmp_path / "model.onnx")
    packed = quantized(FIXED.model_copy(update={"layout": Layout.QOPERATOR}), model, tmp_path / "static")
    reason = STEPS[QuantizeAwareTraining].refuse(load(packed))
    assert reason is not None and "layout qdq" in reason

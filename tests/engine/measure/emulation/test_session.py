"""Whole files, computed as x86 CPUs with VNNI and without it do."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.graph import save
from engine.measure.emulation.session import EmulatedSession
from engine.recipe import Activations, Layout, QuantizeDynamic, Range, Scales, Step
from tests.engine.steps.outcome import FIXED, made_up, session, variants
from tests.models import residual_cnn, transformer

DYNAMIC = QuantizeDynamic(weight_range=Range.REDUCED, weight_scales=Scales.PER_CHANNEL)


def run(path: Path, folder: Path, feeds: dict[str, np.ndarray], *, saturates: bool) -> np.ndarray:
    folder.mkdir()
    emulated = EmulatedSession(path, folder, threads=1, saturates=saturates)
    return emulated.run([output.name for output in emulated.get_outputs()], feeds)[0]


def one_layer(node: onnx.NodeProto, weight: np.ndarray, rank: int, path: Path) -> Path:
    """A product of uint8 inputs without zero points, and its sums in steps of 1024."""
    ones = [numpy_helper.from_array(np.float32(1), name) for name in ("xs", "ws")]
    zeros = [numpy_helper.from_array(np.uint8(0), "xz"), numpy_helper.from_array(np.int8(0), "wz")]
    coarse = [numpy_helper.from_array(np.float32(1024), "ys"), numpy_helper.from_array(np.uint8(0), "yz")]
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [None] * rank)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [*ones, *zeros, *coarse, numpy_helper.from_array(weight, "w")],
    )
    return save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def convolution(weight: np.ndarray, group: int, path: Path) -> Path:
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], group=group)
    return one_layer(node, weight, 4, path)


def largest(channels: int, size: int) -> dict[str, np.ndarray]:
    return {"x": np.full((1, channels, size, size), 255, np.uint8)}


def test_channels_are_the_pairs_of_a_convolution_and_not_its_positions(tmp_path: Path) -> None:
    weight = np.zeros((1, 2, 1, 2), np.int8)
    weight[0, :, 0, 0] = 127
    path = convolution(weight, 1, tmp_path / "together.onnx")
    emulated = run(path, tmp_path / "a", largest(2, 2), saturates=True)
    assert (emulated == 32).all(), "32767 of 64770, in steps of 1024"
    assert (run(path, tmp_path / "b", largest(2, 2), saturates=False) == 63).all()
    beside = np.zeros((1, 2, 1, 2), np.int8)
    beside[0, 0, 0] = 127
    path = convolution(beside, 1, tmp_path / "apart.onnx")
    assert (run(path, tmp_path / "c", largest(2, 2), saturates=True) == 63).all()


def test_depthwise_kernels_do_not_saturate(tmp_path: Path) -> None:
    weight = np.full((4, 1, 1, 2), 127, np.int8)
    path = convolution(weight, 4, tmp_path / "depthwise.onnx")
    assert (run(path, tmp_path / "a", largest(4, 2), saturates=True) == 63).all()
    (tmp_path / "b").mkdir()
    assert EmulatedSession(path, tmp_path / "b", threads=1, saturates=True).at_risk == 0


@pytest.mark.parametrize("layout", [Layout.QDQ, Layout.QOPERATOR])
def test_reduced_weights_have_no_pair_at_risk(tmp_path: Path, layout: Layout) -> None:
    path = residual_cnn().save(tmp_path / "net.onnx")
    (variant, *_) = variants(FIXED.model_copy(update={"layout": layout}), path, tmp_path / "step")
    (tmp_path / "emulated").mkdir()
    assert EmulatedSession(variant.path, tmp_path / "emulated", threads=1, saturates=True).at_risk == 0


FULL = FIXED.model_copy(update={"weight_range": Range.FULL})


@pytest.mark.parametrize(
    "step",
    [
        FULL,
        FULL.model_copy(update={"activations": Activations.SIGNED}),
        FULL.model_copy(update={"layout": Layout.QOPERATOR}),
        DYNAMIC.model_copy(update={"weight_range": Range.FULL}),
    ],
    ids=["qdq", "signed qdq", "qoperator", "dynamic"],
)
def test_full_weights_of_a_network_are_at_risk_in_every_form(tmp_path: Path, step: Step) -> None:
    path = transformer().save(tmp_path / "net.onnx")
    (variant, *_) = variants(step, path, tmp_path / "step")
    feeds = next(made_up(path).batches(2))
    exact = run(variant.path, tmp_path / "exact", feeds, saturates=False)
    saturating = run(variant.path, tmp_path / "saturating", feeds, saturates=True)
    reference = session(path).run(None, feeds)[0]
    assert exact.shape == saturating.shape == reference.shape
    assert np.square(exact - reference).mean() < 0.1 * np.square(reference).mean()
    (tmp_path / "look").mkdir()
    assert EmulatedSession(variant.path, tmp_path / "look", threads=1, saturates=True).at_risk > 0

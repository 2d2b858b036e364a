"""The same integers, written with 8-bit operators."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.graph import load, save
from engine.quantize.calibrate import Calibrator
from engine.quantize.plan import plan
from engine.quantize.prepare import prepared
from engine.quantize.qdq import Format, quantized
from engine.quantize.qoperator import to_qoperator
from engine.signature import Signature
from engine.steps.base import never_pause
from tests.engine.steps.outcome import fused, made_up, outputs, sqnr_db
from tests.models import Net, depthwise_cnn, mlp, residual_cnn, small_cnn, transformer

ROOT = Path(__file__).parents[3]
NETS = pytest.mark.parametrize("net", [small_cnn, residual_cnn, depthwise_cnn, mlp, transformer])
UNSIGNED = Format(signed=False, reduced=True, per_channel=True)


def both(path: Path, folder: Path, form: Format = UNSIGNED) -> tuple[Path, Path]:
    """The model with QuantizeLinear and DequantizeLinear, and the same with 8-bit operators."""
    samples = made_up(path)
    graph = prepared(path, samples, folder)
    assert not isinstance(graph, str)
    found = plan(graph)
    ranges = Calibrator(graph, samples, folder, 1, never_pause).minmax(sorted(set(found.owners.values())))
    model = quantized(graph, found, ranges, form)
    written = to_qoperator(model)
    assert written is not None
    onnx.checker.check_model(model)
    return save(model, folder / "qdq.onnx"), save(written, folder / "qoperator.onnx")


@NETS
@pytest.mark.parametrize("per_channel", [True, False])
def test_outputs_are_those_of_the_other_layout(net: Callable[[], Net], per_channel: bool, tmp_path: Path) -> None:
    path = net().save(tmp_path / "model.onnx")
    qdq, qoperator = both(path, tmp_path, Format(signed=False, reduced=True, per_channel=per_channel))
    samples = made_up(path)
    for expected, actual in zip(outputs(qdq, samples), outputs(qoperator, samples), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1.5 / 255 * np.ptp(expected))
    assert Signature.of(load(qoperator)) == Signature.of(load(path))


@NETS
def test_signed_integers_stay_close_to_the_original(net: Callable[[], Net], tmp_path: Path) -> None:
    path = net().save(tmp_path / "model.onnx")
    _, qoperator = both(path, tmp_path, Format(signed=True, reduced=True, per_channel=True))
    assert sqnr_db(path, qoperator) > 20


@pytest.mark.parametrize("example", ["digits/model.onnx", "fashion/residual.onnx"])
def test_a_real_network_has_no_float_left_and_less_than_half_of_the_nodes(example: str, tmp_path: Path) -> None:
    qdq, qoperator = both(ROOT / "examples" / example, tmp_path)
    kinds = Counter(node.op_type for node in load(qoperator).graph.node)
    assert kinds["QLinearConv"] > 1
    assert not {"Conv", "Add", "Relu", "Gemm", "MatMul"} & set(kinds)
    assert kinds.total() < load(qdq).graph.node.__len__() / 2
    assert set(fused(qoperator, tmp_path)) == set(fused(qdq, tmp_path))


def test_a_clip_that_cuts_inside_the_range_stays(tmp_path: Path) -> None:
    net = Net()
    x = net.conv(net.input("x", ["batch", 3, 8, 8]), (3, 4))
    x = net.op("Clip", x, net.constant(np.float32(0)), net.constant(np.float32(0.1)))
    net.conv(x, (4, 4))
    path = net.output(f"t{len(net.nodes) - 1}", ["batch", 4, 8, 8]).save(tmp_path / "model.onnx")
    model = load(both(path, tmp_path)[0])
    scale = next(weight for weight in model.graph.initializer if weight.name == "t1_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float32(1), scale.name))
    written = to_qoperator(model)
    assert written is not None
    assert "Clip" in {node.op_type for node in written.graph.node}


def test_a_float_model_has_no_group() -> None:
    assert to_qoperator(small_cnn().model()) is None

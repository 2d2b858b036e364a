"""What a graph is brought to before surgery, and what its upgrade must not change."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.graph import load, opset, save
from engine.quantize.prepare import at_opset
from engine.quantize.widen import narrowed, widened
from tests.engine.steps.outcome import halved, made_up, outputs
from tests.models import Net, small_cnn


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize(("operator", "version"), [("Upsample", 7), ("Upsample", 9), ("Resize", 10)])
def test_an_upgrade_keeps_where_old_resizing_samples(operator: str, version: int, mode: str, tmp_path: Path) -> None:
    net = Net()
    x, factors = net.input("x", ["batch", 2, 5, 5]), [1.0, 1.0, 3.0, 1.6]
    if version == 7:
        net.op(operator, x, name="y", mode=mode, scales=factors)
    else:
        net.op(operator, x, net.constant(np.array(factors, np.float32)), name="y", mode=mode)
    path = net.output("y", ["batch", 2, "height", "width"]).save(tmp_path / "model.onnx", opset=version)
    upgraded = at_opset(path, 13, made_up(path), tmp_path)
    assert not isinstance(upgraded, str), upgraded
    assert opset(upgraded) == 13


def test_an_upgrade_that_changes_outputs_is_refused_with_the_opset(tmp_path: Path) -> None:
    net = Net()
    net.op("Hardmax", net.input("x", ["batch", 4, 5]), name="y", axis=1)  # over both axes before opset 13
    path = net.output("y", ["batch", 4, 5]).save(tmp_path / "model.onnx", opset=11)
    assert at_opset(path, 13, made_up(path), tmp_path) == "its outputs change when it is upgraded to opset 13"


def test_an_upgrade_leaves_axes_without_a_name_nameless(tmp_path: Path) -> None:
    net = Net()
    net.op("Reshape", net.input("x", ["batch", 4]), net.constant(np.array([-1])), name="y")
    model = net.output("y", [""]).model(opset=9)
    model.graph.output[0].type.tensor_type.shape.dim[0].Clear()
    path = save(model, tmp_path / "model.onnx")
    upgraded = at_opset(path, 13, made_up(path), tmp_path)
    assert not isinstance(upgraded, str), upgraded
    assert upgraded.graph.output == model.graph.output


def test_a_widened_model_takes_and_gives_float16_and_computes_in_float32(tmp_path: Path) -> None:
    path = halved(small_cnn().save(tmp_path / "model.onnx"), tmp_path / "half.onnx")
    model = load(path)
    wide = save(widened(model), tmp_path / "wide.onnx")
    types = {tensor.data_type for tensor in load(wide).graph.initializer}
    assert types == {onnx.TensorProto.FLOAT}
    assert load(wide).graph.input == model.graph.input
    for before, after in zip(outputs(path, made_up(path)), outputs(wide, made_up(path)), strict=True):
        assert after.dtype == np.float16
        np.testing.assert_allclose(after, before, rtol=0.02, atol=0.02)


def test_a_model_that_was_widened_is_the_same_when_it_is_narrow_again(tmp_path: Path) -> None:
    model = load(halved(small_cnn().save(tmp_path / "model.onnx"), tmp_path / "half.onnx"))
    assert narrowed(widened(model), model) == model

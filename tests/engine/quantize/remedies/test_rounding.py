"""Rounding by least squares in 8 bits: outputs come nearer to the original, and the file stays the same otherwise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from engine.graph import load
from engine.recipe import Range, Scales
from tests.engine.steps.outcome import FIXED, made_up, run, sqnr_db
from tests.models import Net, depthwise_cnn, mlp, residual_cnn, small_cnn

FITTED = FIXED.model_copy(update={"fit_rounding": True})


@pytest.mark.parametrize("scales", [Scales.PER_CHANNEL, Scales.PER_TENSOR])
@pytest.mark.parametrize("net", [small_cnn, residual_cnn, depthwise_cnn, mlp])
def test_errors_cancel_in_what_the_layers_give(net: Callable[[], Net], scales: Scales, tmp_path: Path) -> None:
    path = net().save(tmp_path / "model.onnx")
    samples = made_up(path, 64)
    files = []
    for name, step in (("plain", FIXED), ("fitted", FITTED)):
        outcome = run(step.model_copy(update={"weight_scales": scales}), path, tmp_path / name, samples=samples)
        assert isinstance(outcome, list)
        files.append(outcome[0])
    plain, fitted = files
    assert sqnr_db(path, fitted.path) > sqnr_db(path, plain.path)
    assert "rounded by least squares" in fitted.label
    assert [node.op_type for node in load(fitted.path).graph.node] == [
        node.op_type for node in load(plain.path).graph.node
    ]


def test_weights_keep_to_the_reduced_range(tmp_path: Path) -> None:
    path = small_cnn().save(tmp_path / "model.onnx")
    outcome = run(FITTED.model_copy(update={"weight_range": Range.REDUCED}), path, tmp_path / "out")
    assert isinstance(outcome, list)
    stored = [one for one in load(outcome[0].path).graph.initializer if one.data_type == TensorProto.INT8]
    assert max(int(np.abs(numpy_helper.to_array(one).astype(int)).max()) for one in stored if len(one.dims) > 1) == 64

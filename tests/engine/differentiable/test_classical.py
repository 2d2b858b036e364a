"""What converters of scikit-learn put around a network gives what ONNX Runtime gives, and passes gradients on."""

from typing import Any

import numpy as np
import pytest
import torch

from engine.differentiable import DifferentiableGraph
from tests.engine.differentiable.nodes import OneNode, floats


def classical(operator: str, **attributes: Any) -> OneNode:
    return OneNode(operator, floats(4, 3), domain="ai.onnx.ml", opset=17, **attributes)


CASES = {
    "each column scaled": classical("Scaler", offset=[0.1, -0.2, 0.3], scale=[2.0, 0.5, 1.0]),
    "all scaled": classical("Scaler", offset=[0.1], scale=[2.0]),
    "by the sum": classical("Normalizer", norm="L1"),
    "by the length": classical("Normalizer", norm="L2"),
    "by the largest": classical("Normalizer", norm="MAX"),
    "two regressions": classical(
        "LinearRegressor", coefficients=[0.5, 1.0, -1.0, 0.2, 0.0, 3.0], intercepts=[0.1, 0.2], targets=2
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_rows_come_out_as_onnx_runtime_gives_them(case: OneNode) -> None:
    case.check_outputs()


def test_a_threshold_gives_ones_and_zeros() -> None:
    classical("Binarizer", threshold=0.2).check_outputs()


def test_gradients_go_through_a_scaler() -> None:
    graph = DifferentiableGraph(CASES["each column scaled"].model())
    x = torch.zeros(4, 3, requires_grad=True)
    graph({"i0": x})["o0"].sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, [[2.0, 0.5, 1.0]] * 4)

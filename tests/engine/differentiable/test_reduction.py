"""Reductions give what ONNX Runtime gives, in every form that an opset has for axes, and gradients that are right."""

import numpy as np
import pytest

from tests.engine.differentiable.nodes import OneNode, floats, positives

X = floats(2, 3, 4)
AXES = np.array([0, -1])
NAMES = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
         "ReduceLogSumExp")  # fmt: skip
CASES = {
    **{name: OneNode(name, X, AXES, constants=(1,), opset=18) for name in NAMES},
    "ReduceLogSum": OneNode("ReduceLogSum", positives(2, 3, 4), AXES, constants=(1,), opset=18),
    "axes that come at run time": OneNode("ReduceMean", X, AXES, opset=18, keepdims=0),
    "axes of an old opset": OneNode("ReduceMean", X, opset=13, axes=[1], keepdims=0),
    "all axes": OneNode("ReduceSum", X, keepdims=0),
    "no axes": OneNode("ReduceSum", X, np.zeros(0, np.int64), constants=(1,), noop_with_empty_axes=1),
    "CumSum": OneNode("CumSum", X, np.int64(1), constants=(1,)),
    "CumSum, from the end without itself": OneNode("CumSum", X, np.int64(-1), exclusive=1, reverse=1),
    "TopK": OneNode("TopK", X, np.array([2]), constants=(1,), outputs=2),
    "TopK, smallest of an axis": OneNode("TopK", X, np.array([2]), outputs=2, axis=1, largest=0),
}
PLACES = {
    "ArgMax": OneNode("ArgMax", np.round(X), axis=2),
    "ArgMax, the last": OneNode("ArgMax", np.round(X), axis=2, select_last_index=1, keepdims=0),
    "ArgMin": OneNode("ArgMin", np.round(X), axis=0),
    "whole numbers": OneNode("ReduceMean", (X * 9).astype(np.int64), opset=18),
    "of no values": OneNode("ReduceMax", np.zeros((2, 0, 4), np.float32), np.array([0]), opset=20),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_reductions_give_what_onnx_runtime_gives_and_right_gradients(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize("case", PLACES.values(), ids=PLACES)
def test_places_and_whole_numbers_are_those_of_onnx_runtime(case: OneNode) -> None:
    case.check_outputs()

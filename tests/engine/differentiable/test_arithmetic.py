"""Arithmetic gives what ONNX Runtime gives, integers and broadcasting included, and gradients that are right."""

import numpy as np
import pytest

from tests.engine.differentiable.nodes import OneNode, floats, levels, positives

X, ROW, COLUMN = floats(3, 4), floats(4, seed=1), floats(3, 1, seed=2)
FLOATS = {
    "Add": OneNode("Add", X, ROW),
    "Sub": OneNode("Sub", COLUMN, ROW),
    "Mul": OneNode("Mul", X, np.float32(3)),
    "Div": OneNode("Div", X, positives(4)),
    "Pow, a constant": OneNode("Pow", X, np.float32(2), constants=(1,)),
    "Pow, a tensor": OneNode("Pow", positives(3, 4), X),
    "Pow, to an integer": OneNode("Pow", X, np.int64(3), constants=(1,)),
    "Max of three": OneNode("Max", X, ROW, COLUMN),
    "Min of two": OneNode("Min", X, ROW),
    "Sum of three": OneNode("Sum", X, ROW, COLUMN),
    "Mean of three": OneNode("Mean", X, ROW, COLUMN),
    "PRelu": OneNode("PRelu", X, COLUMN),
    "Where": OneNode("Where", X > 0, ROW, COLUMN),
    "MatMul": OneNode("MatMul", floats(2, 3, 4), floats(4, 5)),
    "MatMul, batches of both": OneNode("MatMul", floats(2, 1, 3, 4), floats(3, 4, 5)),
    "MatMul, vectors": OneNode("MatMul", floats(4), floats(4, seed=1)),
    "MatMul, a vector first": OneNode("MatMul", floats(4), floats(2, 4, 3)),
    "Gemm": OneNode("Gemm", floats(3, 4), floats(4, 5), ROW[:1]),
    "Gemm, all options": OneNode(
        "Gemm", floats(4, 3), floats(5, 4), floats(5), transA=1, transB=1, alpha=0.5, beta=2.0
    ),
    "Gemm, no third": OneNode("Gemm", floats(3, 4), floats(4, 5), alpha=0.5),
    "Mod of floats": OneNode("Mod", X * 4, positives(4), fmod=1),
}
A, B = levels(3, 4, element=np.int64, low=-9, high=9), levels(4, element=np.int64, low=1, high=9)
INTEGERS = {
    "Div, towards zero": OneNode("Div", A, B),
    "Mod, sign of the divisor": OneNode("Mod", A, -B),
    "Mod, sign of the dividend": OneNode("Mod", A, -B, fmod=1),
    "Pow": OneNode("Pow", A, np.int64(3)),
    "unsigned Add": OneNode("Add", A.astype(np.uint32), B.astype(np.uint32)),
    "unsigned Sub": OneNode("Sub", np.abs(A).astype(np.uint64) + 9, B.astype(np.uint64)),
    "Greater": OneNode("Greater", A, B),
    "LessOrEqual": OneNode("LessOrEqual", A, B),
    "Equal": OneNode("Equal", A, B),
    "And": OneNode("And", A > 0, B > 4),
    "Xor": OneNode("Xor", A > 0, B > 4),
    "BitShift": OneNode("BitShift", np.abs(A).astype(np.uint8), B.astype(np.uint8), direction="LEFT"),
    "BitwiseAnd": OneNode("BitwiseAnd", A, B),
}


@pytest.mark.parametrize("case", FLOATS.values(), ids=FLOATS)
def test_arithmetic_gives_what_onnx_runtime_gives_and_right_gradients(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize("case", INTEGERS.values(), ids=INTEGERS)
def test_whole_numbers_are_computed_as_onnx_runtime_does(case: OneNode) -> None:
    case.check_outputs()

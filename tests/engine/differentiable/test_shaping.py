"""Shapes are those of ONNX Runtime, known in advance or computed, and gradients go back through them."""

import numpy as np
import pytest

from tests.engine.differentiable.nodes import OneNode, floats

X = floats(2, 3, 4)


def int64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES = {
    "Reshape": OneNode("Reshape", X, int64(4, -1), constants=(1,)),
    "Reshape, keeping": OneNode("Reshape", X, int64(0, -1), constants=(1,)),
    "Reshape, computed": OneNode("Reshape", X, int64(-1, 0)),
    "Transpose": OneNode("Transpose", X, perm=[2, 0, 1]),
    "Transpose, all": OneNode("Transpose", X),
    "Flatten": OneNode("Flatten", X),
    "Flatten, elsewhere": OneNode("Flatten", X, axis=-1),
    "Flatten, into one row": OneNode("Flatten", X, axis=0),
    "Squeeze": OneNode("Squeeze", X[:, :1], int64(1), constants=(1,)),
    "Squeeze, attribute": OneNode("Squeeze", X[:, :1], opset=11, axes=[1]),
    "Squeeze, all": OneNode("Squeeze", X[:1, :1]),
    "Unsqueeze": OneNode("Unsqueeze", X, int64(0, -1), constants=(1,)),
    "Unsqueeze, computed": OneNode("Unsqueeze", X, int64(1)),
    "Concat": OneNode("Concat", X, floats(2, 3, 2), axis=-1),
    "Split, equal": OneNode("Split", X, outputs=2, axis=2, num_outputs=2),
    "Split, the last smaller": OneNode("Split", X, outputs=2, axis=1, num_outputs=2),
    "Split, sizes": OneNode("Split", X, int64(1, 2), outputs=2, axis=1),
    "Split, attribute": OneNode("Split", X, outputs=2, axis=1, opset=11, split=[1, 2]),
    "Expand": OneNode("Expand", X[:, :1], int64(2, 1, 3, 1), constants=(1,)),
    "Tile": OneNode("Tile", X, int64(2, 1, 3), constants=(1,)),
    "Trilu": OneNode("Trilu", X, np.int64(1), upper=0),
    "Pad": OneNode("Pad", X, int64(0, 1, 2, 1, 0, 0), constants=(1,)),
    "Pad, cut and filled": OneNode("Pad", X, int64(0, -1, 2, 1, 0, -1), np.float32(7), constants=(1, 2)),
    "Pad, axes": OneNode("Pad", X, int64(1, 2), None, int64(-1), constants=(1, 3)),
    "Pad, mirrored": OneNode("Pad", X, int64(0, 1, 2, 1, 0, 3), constants=(1,), mode="reflect"),
    "Pad, edges": OneNode("Pad", X, int64(0, 1, 2, 1, 0, 3), mode="edge"),
    "Pad, around": OneNode("Pad", X, int64(0, 1, 2, 1, 0, 3), constants=(1,), mode="wrap"),
}
WITHOUT_GRADIENTS = {
    "Shape": OneNode("Shape", X, start=1),
    "Size": OneNode("Size", X),
    "Range": OneNode("Range", np.int64(10), np.int64(1), np.int64(-3)),
    "Range, of fractions": OneNode("Range", np.float32(0), np.float32(1), np.float32(0.3)),
    "EyeLike": OneNode("EyeLike", X[0], k=1),
    "ConstantOfShape": OneNode("ConstantOfShape", int64(2, 3)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_shapes_are_changed_as_onnx_runtime_does_and_gradients_go_back(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize("case", WITHOUT_GRADIENTS.values(), ids=WITHOUT_GRADIENTS)
def test_what_is_made_of_a_shape_is_what_onnx_runtime_makes(case: OneNode) -> None:
    case.check_outputs()

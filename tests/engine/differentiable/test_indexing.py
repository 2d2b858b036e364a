"""Gathered, scattered and sliced values are those of ONNX Runtime, and gradients reach where they came from."""

import numpy as np
import pytest

from tests.engine.differentiable.nodes import OneNode, floats

X = floats(3, 4, 5)


def int64(*values: object) -> np.ndarray:
    return np.array(values, np.int64)


CASES = {
    "Gather": OneNode("Gather", X, int64([0, -1], [2, 2]), axis=1),
    "Gather, one": OneNode("Gather", X, np.int64(-1), constants=(1,), axis=2),
    "GatherElements": OneNode("GatherElements", X, int64([[0, -1, 1, 2, 3]]), axis=1),
    "GatherND": OneNode("GatherND", X, int64([0, -1], [2, 1])),
    "GatherND, batches": OneNode("GatherND", X, int64([1], [0], [-1]), batch_dims=1),
    "ScatterElements": OneNode("ScatterElements", X, int64([[0, -1, 1, 2, 3]]), floats(1, 1, 5), axis=1),
    "ScatterElements, added": OneNode(
        "ScatterElements", X, int64([[1, 1]], [[1, 2]]), floats(2, 1, 2), axis=2, reduction="add"
    ),
    "ScatterND": OneNode("ScatterND", X, int64([0, -1], [2, 1]), floats(2, 5)),
    "ScatterND, multiplied": OneNode("ScatterND", X, int64([1], [1]), floats(2, 4, 5), reduction="mul"),
    "Slice": OneNode("Slice", X, int64(1, -4), int64(9, -1), int64(0, 2), constants=(1, 2, 3)),
    "Slice, computed": OneNode("Slice", X, int64(0), int64(4), int64(-1), int64(2)),
    "Slice, backwards": OneNode("Slice", X, int64(-1), int64(-99), int64(1), int64(-2), constants=(1, 2, 3, 4)),
    "Slice, of nothing": OneNode("Slice", X, int64(3), int64(1), int64(1), constants=(1, 2, 3)),
    "Slice, attributes": OneNode("Slice", X, opset=9, starts=[1], ends=[3], axes=[1]),
    "Compress": OneNode("Compress", X, np.array([True, False, True]), axis=1),
    "Compress, all in a row": OneNode("Compress", X, np.array([True, False, True])),
    "ReverseSequence": OneNode("ReverseSequence", X, int64(1, 4, 2), batch_axis=0, time_axis=1),
    "ReverseSequence, time first": OneNode("ReverseSequence", X, int64(1, 3, 2, 1)),
    "OneHot": OneNode("OneHot", int64(0, -1, 7), np.int64(4), np.float32([0.5, 3]), axis=0),
}
BOXES = np.float32([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 10, 1, 11], [1, 11.05, 0, 10.05], [0, 100, 1, 101]]])
SCORES = np.float32([[[0.9, 0.75, 0.6, 0.95, 0.3]]])
WITHOUT_GRADIENTS = {
    "NonZero": OneNode("NonZero", np.round(X)),
    "Unique": OneNode("Unique", np.round(X), outputs=4),
    "Unique, as they come": OneNode("Unique", np.round(X), outputs=4, sorted=0),
    "NonMaxSuppression": OneNode(
        "NonMaxSuppression", BOXES, SCORES, np.int64([3]), np.float32([0.5]), np.float32([0.4])
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_are_found_and_put_where_onnx_runtime_does_and_gradients_go_back(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize("case", WITHOUT_GRADIENTS.values(), ids=WITHOUT_GRADIENTS)
def test_places_are_those_that_onnx_runtime_finds(case: OneNode) -> None:
    case.check_outputs()

"""ONNX's own tests of operators, through the differentiable graph, with the tolerances of that suite.

`differentiable.txt` lists each case that does not pass, with the reason: an unlisted one must pass, a listed one must
not, unless it is a matter of rounding, which other processors do otherwise. What the list should be now:
`python -m tests.conformance.test_differentiable`.
"""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase

from engine.differentiable import DifferentiableGraph, UnsupportedOperator
from engine.differentiable.elements import NARROW, to_numpy, to_torch
from tests.conformance.cases import node_cases

LIST = Path(__file__).with_name("differentiable.txt")
ROUNDING = "rounding: "
PARTS = 12
BFLOAT16_TOLERANCE = 2**-6  #: two units in the last place
pytestmark = [
    pytest.mark.xdist_group("node cases"),
    pytest.mark.filterwarnings("ignore"),  # cases divide by zero and overflow on purpose
]


def listed() -> dict[str, str]:
    """Reasons of the cases that do not pass."""
    lines = LIST.read_text().splitlines()
    return dict(line.split("\t", 1) for line in lines)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_case_passes_or_is_listed_with_its_reason(part: int) -> None:
    names = sorted(node_cases())[part::PARTS]
    failed = {name for name in names if failure(node_cases()[name])}
    known = {name: reason for name, reason in listed().items() if name in names}
    assert not failed - known.keys()
    assert not {name for name, reason in known.items() if not reason.startswith(ROUNDING)} - failed


def test_most_cases_pass_and_each_that_does_not_has_a_reason() -> None:
    assert len(node_cases()) - len(listed()) >= 1200
    assert listed().keys() <= node_cases().keys()
    assert all(len(reason) > 10 for reason in listed().values())


def failure(case: TestCase) -> str | None:
    """What is wrong with the outputs, in one line; None where nothing is."""
    torch.manual_seed(0)
    try:
        graph = DifferentiableGraph(case.model)
        for inputs, expected in case.data_sets:
            feeds = dict(zip(graph.inputs, map(_value, inputs), strict=False))
            actual = [_array(value) for value in graph(feeds).values()]
            compare(actual, expected, case.rtol, case.atol)
    except UnsupportedOperator as error:
        return error.detail
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the list
        notes = " ".join(getattr(error, "__notes__", []))
        return " ".join(f"{type(error).__name__} {error} {notes}".split())[:300]
    return None


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return [_value(item) for item in value]
    if value is None or isinstance(value, str):
        return value
    return to_torch(_plain(value))


def _plain(value: Any) -> np.ndarray:
    """Some cases hold their data as the model's file would."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _array(value: Any) -> Any:
    if isinstance(value, list):
        return [_array(item) for item in value]
    return None if value is None else to_numpy(value)


def compare(actual: Sequence[Any], expected: Sequence[Any], relative: float, absolute: float) -> None:
    """As `onnx.backend.test.runner` compares: length, shape, type, values."""
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        if isinstance(other, list | tuple):
            compare(one, other, relative, absolute)
        else:
            _compare_arrays(one, _plain(other), relative, absolute)


def _compare_arrays(actual: np.ndarray, expected: np.ndarray, relative: float, absolute: float) -> None:
    np.testing.assert_array_equal(actual.shape, expected.shape)
    if expected.dtype == object:
        np.testing.assert_array_equal(actual, expected)
        return
    held = NARROW.get(expected.dtype, expected.dtype)
    np.testing.assert_equal(actual.dtype, np.dtype(held))
    if expected.dtype.name == "bfloat16":
        relative = max(relative, BFLOAT16_TOLERANCE)
    if expected.dtype.kind == "V" or expected.dtype in NARROW:
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_allclose(actual, expected, rtol=relative, atol=absolute)


def main() -> None:
    """Print the cases that do not pass; known reasons are kept."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    reasons = listed() if LIST.exists() else {}
    for name, case in sorted(node_cases().items()):
        found = failure(case)
        if found:
            sys.stdout.write(f"{name}\t{reasons.get(name, found)}\n")


if __name__ == "__main__":
    main()

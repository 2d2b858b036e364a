"""Rounding by least squares: what a layer gives comes nearer than by rounding each weight for itself."""

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from engine.quantize.fitted import fitted_levels
from engine.quantize.patches import Patch, patch_of

RANDOM = np.random.default_rng(0)
LIMITS = np.array(-7.0), np.array(7.0)


def rounding_noise(levels: np.ndarray, weights: np.ndarray, inputs: np.ndarray) -> float:
    """Of the outputs, over their power."""
    outputs = inputs @ weights.T
    return float(np.square(inputs @ levels.T - outputs).sum() / np.square(outputs).sum())


@pytest.mark.parametrize("inputs", [5, 200])
def test_errors_of_correlated_inputs_cancel(inputs: int) -> None:
    rows = RANDOM.standard_normal((1000, inputs)) @ RANDOM.standard_normal((inputs, inputs))
    weights = RANDOM.uniform(-6, 6, (20, inputs))
    fitted = fitted_levels(weights, np.ones(()), rows.T @ rows / len(rows), LIMITS)
    assert np.array_equal(fitted, np.clip(np.rint(fitted), *LIMITS))
    assert rounding_noise(fitted, weights, rows) < 0.7 * rounding_noise(np.rint(weights), weights, rows)


def test_inputs_without_correlation_are_rounded_to_the_nearest_level() -> None:
    weights = RANDOM.uniform(-6, 6, (20, 30))
    assert np.array_equal(fitted_levels(weights, np.full((20, 1), 0.1), np.eye(30), LIMITS), np.rint(weights))


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    weights = RANDOM.uniform(-6, 6, (20, 30))
    assert np.array_equal(fitted_levels(weights, np.ones(()), np.zeros((30, 30)), LIMITS), np.rint(weights))


def test_a_weight_that_is_zero_stays_zero() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((1000, 30)) @ random.standard_normal((30, 30))
    weights = np.where(random.random((20, 30)) < 0.5, 0, random.uniform(-6, 6, (20, 30)))
    fitted = fitted_levels(weights, np.ones(()), rows.T @ rows / len(rows), LIMITS)
    assert not fitted[weights == 0].any()
    assert rounding_noise(fitted, weights, rows) < 0.9 * rounding_noise(np.rint(weights), weights, rows)


@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 1], "pads": [1, 0, 1, 2]}, {"dilations": [1, 2]}])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_patch_is_what_a_kernel_is_multiplied_by(attributes: dict[str, list[int]], groups: int) -> None:
    weight = RANDOM.standard_normal((6, 4 // groups, 3, 2)).astype(np.float32)
    image = RANDOM.standard_normal((2, 4, 7, 8)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, **attributes)
    patch = patch_of(node, weight.shape)
    assert patch is not None
    parts = weight.reshape(groups, 6 // groups, -1)
    ours = np.concatenate([rows @ part.T for rows, part in zip(patch.rows(image), parts, strict=True)], axis=1)
    assert np.allclose(ours, convolved(node, image, weight), atol=1e-4)


def test_a_row_of_a_product_is_what_its_columns_are_multiplied_by() -> None:
    tokens = RANDOM.standard_normal((3, 5, 8)).astype(np.float32)
    assert np.array_equal(Patch("x", 8).rows(tokens), tokens.reshape(1, 15, 8))


def convolved(node: onnx.NodeProto, image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(positions, channels) by ONNX's own reference."""
    shapes = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "w", "y")]
    model = helper.make_model(helper.make_graph([node], "conv", shapes[:2], shapes[2:]))
    (result,) = ReferenceEvaluator(model).run(None, {"x": image, "w": weight})
    return np.moveaxis(result, 1, -1).reshape(-1, result.shape[1])

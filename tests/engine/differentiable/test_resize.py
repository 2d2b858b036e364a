"""Resizing and sampling give what ONNX Runtime gives, and gradients that are finite differences."""

from typing import Any

import numpy as np
import pytest

from tests.engine.differentiable.nodes import OneNode, floats, levels

TRANSFORMS = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def resized(
    *shape: int, scales: Any = None, sizes: Any = None, region: Any = None, opset: int = 19, **rest: Any
) -> OneNode:
    inputs = [floats(*shape), None if region is None else np.float32(region)]
    inputs += [None if scales is None else np.float32(scales)]
    inputs += [None if sizes is None else np.int64(sizes)] if sizes is not None else []
    return OneNode("Resize", *inputs, constants=(1, 2, 3), opset=opset, **rest)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("sizes", [(1, 2, 7, 9), (1, 2, 3, 2)])
def test_between_elements(mode: str, transform: str, sizes: tuple[int, ...]) -> None:
    resized(1, 2, 5, 4, sizes=sizes, mode=mode, coordinate_transformation_mode=transform).check()


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
@pytest.mark.parametrize("nearest", NEAREST)
@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 0.6, 1.7)])
def test_to_the_nearest_element(nearest: str, transform: str, scales: tuple[float, ...]) -> None:
    resized(1, 1, 5, 4, scales=scales, nearest_mode=nearest, coordinate_transformation_mode=transform).check_outputs()


OTHERS = {
    "antialiased": resized(1, 1, 8, 9, scales=(1, 1, 0.4, 0.6), mode="linear", antialias=1),
    "antialiased, cubic": resized(1, 1, 8, 9, sizes=(1, 1, 3, 4), mode="cubic", antialias=1),
    "nothing from outside": resized(1, 1, 5, 5, scales=(1, 1, 1.6, 0.7), mode="cubic", exclude_outside=1),
    "less sharp": resized(1, 1, 5, 5, scales=(1, 1, 1.6, 1.7), mode="cubic", cubic_coeff_a=-0.5),
    "a scale that does not fit": resized(1, 1, 5, 5, scales=(1, 1, 1.3, 0.7), mode="linear"),
    "a scale that does not fit, corners aligned": resized(
        1, 1, 5, 5, scales=(1, 1, 1.3, 0.7), mode="cubic", coordinate_transformation_mode="align_corners"
    ),
    "chosen axes": resized(1, 2, 5, 4, sizes=(7, 3), mode="linear", axes=[3, 2]),
    "not larger": resized(1, 1, 6, 4, sizes=(9, 8), mode="linear", axes=[2, 3], keep_aspect_ratio_policy="not_larger"),
    "three axes": resized(1, 1, 2, 3, 2, scales=(1, 1, 2, 2, 2), mode="linear"),
    "one axis": resized(1, 2, 5, sizes=(1, 2, 8), mode="linear"),
    "a region, wider than the image": resized(
        1, 1, 5, 5, region=[0, 0, 0.2, -0.3, 1, 1, 0.7, 1.2], sizes=(1, 1, 4, 6), mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0,
    ),
    "repeated": resized(1, 2, 3, 3, scales=(1, 1, 2, 2)),
    "grid": OneNode("GridSample", floats(1, 2, 4, 4), 0.8 * floats(1, 3, 2, 2), opset=20, align_corners=1),
    "grid, cubic": OneNode(
        "GridSample", floats(1, 2, 4, 4), 0.8 * floats(1, 3, 2, 2), opset=20, mode="cubic", padding_mode="border"
    ),
    "grid of an affine map": OneNode(
        "AffineGrid", floats(2, 2, 3), np.int64([2, 1, 3, 4]), constants=(1,), opset=20, align_corners=1
    ),
    "channels to space": OneNode("DepthToSpace", floats(1, 8, 2, 3), blocksize=2),
    "channels to space, columns first": OneNode("DepthToSpace", floats(1, 8, 2, 3), blocksize=2, mode="CRD"),
    "space to channels": OneNode("SpaceToDepth", floats(1, 2, 4, 6), blocksize=2),
    "cut and padded": OneNode(
        "CenterCropPad", floats(5, 4, 3), np.int64([2, 7]), constants=(1,), axes=[0, 1]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_other_ways_to_sample(case: OneNode) -> None:
    case.check()


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_old_operators_sample_where_they_always_did(mode: str) -> None:
    x, scales = floats(1, 2, 3, 4), np.float32([1, 1, 2, 1.5])
    OneNode("Upsample", x, scales, constants=(1,), opset=9, mode=mode).check()
    OneNode("Upsample", x, opset=8, mode=mode, scales=scales.tolist()).check()
    OneNode("Resize", x, scales, constants=(1,), opset=10, mode=mode).check()


def test_bytes_are_resized_as_bytes() -> None:
    x = levels(1, 1, 4, 4)
    OneNode("Resize", x, None, np.float32([1, 1, 2, 2]), constants=(2,), opset=19).check_outputs()

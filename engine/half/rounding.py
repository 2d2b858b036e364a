"""Which values a 16-bit float can hold, and which tensors of a model are therefore better left in float32."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import numpy as np
import onnx
from ml_dtypes import bfloat16
from onnx import numpy_helper

from engine.graph import is_standard
from engine.recipe import Half

TYPES = {Half.FLOAT16: np.dtype(np.float16), Half.BFLOAT16: np.dtype(bfloat16)}
FAITHFUL_DB = 40.0  #: constants that lose more than that when they are rounded stay in float32
LARGEST = 65504.0 / 4  #: of an activation on the samples that were tried; others may be larger
SMALLEST = 2.0**-14 * 8  #: activations none of which is larger lose precision in float16
#: hand on what they read, so that a mask of -3e38 is one behind them as well
CARRYING = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Where",
    "Neg",
    "Max",
    "Cast",
    "Concat",
    "Expand",
    "Identity",
    "Reshape",
    "Slice",
)
CARRYING += ("Squeeze", "Transpose", "Unsqueeze")


def rounded_half(values: np.ndarray, half: Half) -> np.ndarray | None:
    """The values in half precision, or None where that loses too much: beyond its range, or below it."""
    with np.errstate(over="ignore"):
        rounded = values.astype(TYPES[half])
    finite = np.isfinite(values)
    exact = values[finite].astype(np.float64)
    noise = rounded[finite].astype(np.float64) - exact
    lost = np.vdot(noise, noise) > 10 ** (-FAITHFUL_DB / 10) * np.vdot(exact, exact)
    return None if lost else rounded


def unsafe_tensors(model: onnx.ModelProto, half: Half, ranges: Mapping[str, tuple[float, float]]) -> set[str]:
    """Tensors of the main graph that half precision would spoil: constants, and activations by their ranges."""
    unsafe = {name for name, limits in ranges.items() if not _fits(*limits)}
    beyond = set()
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(weight)
            if rounded_half(values, half) is None:
                unsafe.add(weight.name)
                if np.abs(values[np.isfinite(values)]).max(initial=0) > LARGEST:
                    beyond.add(weight.name)
    return unsafe | _carried(model.graph, beyond)


def _fits(low: float, high: float) -> bool:
    largest = max(abs(low), abs(high))
    return largest == 0 or SMALLEST <= largest <= LARGEST


def _carried(graph: onnx.GraphProto, beyond: AbstractSet[str]) -> set[str]:
    """Tensors that take values from constants that are too large, on samples that were not tried at least."""
    found = set(beyond)
    for node in graph.node:
        if is_standard(node, *CARRYING) and found.intersection(node.input):
            found.update(node.output)
    return found

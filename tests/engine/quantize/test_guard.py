"""A layer that stays in float between 8-bit neighbours is not rounded when ONNX Runtime loads the file."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.quantize.guard import keep_weights_float

SHAPES = {"Conv": (6, 4, 3, 3), "ConvTranspose": (4, 6, 3, 3), "Gemm": (4, 6)}


def _between_8_bits(operator: str) -> onnx.ModelProto:
    """QuantizeLinear → DequantizeLinear → layer with a few huge weights → Relu → QuantizeLinear → DequantizeLinear."""
    random = np.random.default_rng(0)
    weight = random.standard_normal(SHAPES[operator]).astype(np.float32)
    weight.ravel()[:2] = 500
    dims = ["N", 4] if operator == "Gemm" else ["N", 4, 8, 8]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node(operator, ["d", "weight", "bias"], ["made"], name="layer"),
        helper.make_node("Relu", ["made"], ["positive"]),
        helper.make_node("QuantizeLinear", ["positive", "coarse", "zero"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "coarse", "zero"], ["y"]),
    ]
    constants = {"scale": np.float32(0.02), "coarse": np.float32(0.05), "zero": np.uint8(0), "weight": weight}
    constants["bias"] = np.zeros(6, np.float32)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(dims))],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray], level: onnxruntime.GraphOptimizationLevel) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize("operator", list(SHAPES))
def test_float_weights_between_8_bits_stay_float(operator: str) -> None:
    model = _between_8_bits(operator)
    shape = (16, 4) if operator == "Gemm" else (16, 4, 8, 8)
    feeds = {"x": np.random.default_rng(1).uniform(0, 0.6, shape).astype(np.float32)}
    as_written = _run(model, feeds, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    as_loaded = _run(model, feeds, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    assert np.abs(as_loaded - as_written).max() > 0.3, "ONNX Runtime no longer rounds float weights: the guard may go"
    assert keep_weights_float(model) == 1
    onnx.checker.check_model(model)
    np.testing.assert_array_equal(_run(model, feeds, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL), as_written)
    guarded = _run(model, feeds, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    assert np.abs(guarded - as_written).max() < 0.06, "at most one step of the last rounding"


def test_a_layer_in_8_bits_or_with_a_float_reader_is_left_alone() -> None:
    model = _between_8_bits("Conv")
    model.graph.output.append(helper.make_tensor_value_info("positive", TensorProto.FLOAT, None))
    before = model.SerializeToString()
    assert keep_weights_float(model) == 0
    assert model.SerializeToString() == before

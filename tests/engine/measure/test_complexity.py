"""Counts are checked against arithmetic done by hand."""

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engine.measure.complexity import count
from tests.models import Net, branching, depthwise_cnn, mlp, recurrent, residual_cnn, transformer


def weight(name: str, *shape: int, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.zeros(shape, dtype), name)


def graph(
    nodes: list[NodeProto],
    inputs: dict[str, list[int | str | None]],
    outputs: dict[str, list[int | str | None]],
    weights: list[TensorProto],
) -> GraphProto:
    return helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        weights,
    )


def model(content: GraphProto, opset: int = 17) -> ModelProto:
    return helper.make_model(
        content,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )


def convolution(groups: int, out: int, kernel: int, size: int, channels: int) -> ModelProto:
    pad = kernel // 2
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups, pads=[pad] * 4)
    weights = [weight("w", out, channels // groups, kernel, kernel)]
    return model(graph([node], {"x": ["N", channels, size, size]}, {"y": [None] * 4}, weights))


def test_a_dense_convolution_counts_its_window_times_its_channels() -> None:
    assert count(convolution(1, 128, 3, 112, 64)).macs == 924_844_032


def test_weights_in_constant_nodes_are_parameters_and_shapes_are_not() -> None:
    constants = [helper.make_node("Constant", [], ["w"], value=weight("w", 4, 8))]
    constants.append(helper.make_node("Constant", [], ["shape"], value=weight("shape", 2, dtype=np.int64)))
    nodes = [
        *constants,
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Reshape", ["z", "shape"], ["y"]),
    ]
    assert count(model(graph(nodes, {"x": [1, 4]}, {"y": [None, None]}, []))).parameters == 32


def test_a_depthwise_and_a_pointwise_convolution_count_as_the_design_says() -> None:
    depthwise, pointwise = convolution(64, 64, 3, 112, 64), convolution(1, 128, 1, 112, 64)
    counts = [count(depthwise).macs or 0, count(pointwise).macs or 0]
    assert counts == [7_225_344, 102_760_448]
    assert sum(counts) == 109_985_792


def test_a_batch_multiplies_the_work() -> None:
    small = convolution(1, 8, 3, 16, 4)
    assert count(small, batch=5).macs == 5 * (count(small).macs or 0)


def test_a_transposed_convolution_counts_each_input_element_once_per_window() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])
    content = graph([node], {"x": [1, 8, 10, 10]}, {"y": [None] * 4}, [weight("w", 8, 4, 2, 2)])
    assert count(model(content)).macs == 8 * 10 * 10 * 4 * 2 * 2


@pytest.mark.parametrize(("transposed", "left"), [(0, [7, 5]), (1, [5, 7])])
def test_a_gemm_counts_rows_times_columns_times_depth(transposed: int, left: list[int | str | None]) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=transposed)
    assert count(model(graph([node], {"x": left}, {"y": [None, None]}, [weight("w", 5, 3)]))).macs == 7 * 5 * 3


def test_a_batched_matrix_product_counts_every_matrix() -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    content = graph([node], {"a": [2, 4, 6, 8], "b": [2, 4, 8, 3]}, {"y": [None] * 4}, [])
    assert count(model(content)).macs == 2 * 4 * 6 * 8 * 3


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_recurrent_layer_counts_its_gates_at_every_step(operator: str, gates: int) -> None:
    node = helper.make_node(operator, ["x", "w", "r"], ["y"], hidden_size=16)
    weights = [weight("w", 1, gates * 16, 10), weight("r", 1, gates * 16, 16)]
    content = graph([node], {"x": [20, 2, 10]}, {"y": [None] * 4}, weights)
    assert count(model(content)).macs == 20 * 2 * gates * 16 * (10 + 16)


def test_an_einsum_counts_the_product_of_its_indices() -> None:
    node = helper.make_node("Einsum", ["a", "b"], ["y"], equation="...ij,...jk->...ik")
    content = graph([node], {"a": [2, 3, 4, 5], "b": [1, 3, 5, 6]}, {"y": [None] * 4}, [])
    assert count(model(content)).macs == 2 * 3 * 4 * 5 * 6


def test_an_onnx_attention_counts_both_of_its_products() -> None:
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"])
    shapes: dict[str, list[int | str | None]] = {"q": [1, 2, 6, 8], "k": [1, 2, 9, 8], "v": [1, 2, 9, 8]}
    assert count(model(graph([node], shapes, {"y": [1, 2, 6, 8]}, []), 23)).macs == 2 * (2 * 6 * 9 * 8)


def test_a_quantized_convolution_counts_like_the_float_one() -> None:
    names = ["x", "s", "z", "w", "ws", "wz", "s", "z"]
    weights = [weight("w", 8, 4, 3, 3, dtype=np.int8), weight("s"), weight("ws"), weight("z", dtype=np.uint8)]
    weights.append(weight("wz", dtype=np.int8))
    node = helper.make_node("QLinearConv", names, ["y"], pads=[1, 1, 1, 1])
    content = graph([node], {}, {}, weights)
    content.input.append(helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 4, 10, 10]))
    content.output.append(helper.make_tensor_value_info("y", TensorProto.UINT8, None))
    assert count(model(content)).macs == count(convolution(1, 8, 3, 10, 4)).macs


def test_both_branches_count_once() -> None:
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["b"])],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
    content = graph([node], {"x": [4, 5]}, {"y": [None, None]}, [weight("w", 5, 6)])
    content.input.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, []))
    assert count(model(content)).macs == 2 * 4 * 5 * 6


def test_an_unknown_shape_gives_no_number_rather_than_a_wrong_one() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "f"], ["y"]),
    ]
    complexity = count(model(graph(nodes, {"x": [3, 4]}, {"y": [None, None]}, [weight("w", 5, 2)])))
    assert complexity.macs is None
    assert complexity.bytes_moved is None
    assert complexity.parameters == 10


def test_tensors_between_quantize_and_dequantize_move_one_byte_per_element() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    weights = [weight("s"), weight("z", dtype=np.uint8)]
    assert count(model(graph(nodes, {"x": [10, 10]}, {"y": [10, 10]}, weights))).bytes_moved == 100 + 400


def test_a_dimension_that_is_called_the_batch_is_the_batch_wherever_it_stands() -> None:
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=16)
    weights = [weight("w", 1, 64, 10), weight("r", 1, 64, 16)]
    recurrent = model(graph([node], {"x": ["steps", "batch", 10]}, {"y": [None] * 4}, weights))
    assert count(recurrent, batch=3).macs == 3 * 64 * 26
    assert count(recurrent, sizes={"x": (20, 3, 10)}).macs == 20 * 3 * 64 * 26


def test_a_dimension_of_minus_one_is_open() -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    made_by_paddle = model(graph([node], {"x": [-1, 4]}, {"y": [-1, 5]}, [weight("w", 4, 5)]))
    assert count(made_by_paddle, sizes={"x": (3, 4)}).macs == 3 * 4 * 5


def test_a_function_of_the_model_counts_where_it_is_called() -> None:
    body = helper.make_function(
        "local",
        "twice",
        ["a"],
        ["c"],
        [
            helper.make_node("MatMul", ["a", "a"], ["b"]),
            helper.make_node("MatMul", ["b", "a"], ["c"]),
        ],
        [helper.make_opsetid("", 17)],
    )
    calling = model(graph([helper.make_node("twice", ["x"], ["y"], domain="local")], {"x": [4, 4]}, {"y": [4, 4]}, []))
    calling.functions.append(body)
    calling.opset_import.append(helper.make_opsetid("local", 1))
    assert count(calling).macs == 2 * 4**3


@pytest.mark.parametrize("net", [branching(), depthwise_cnn(), mlp(), recurrent(), residual_cnn(), transformer()])
@pytest.mark.parametrize("opset", [11, 13, 17])
def test_every_model_gets_an_answer(net: Net, opset: int) -> None:
    complexity = count(net.model(opset))
    assert complexity.macs is None or complexity.macs > 0
    assert complexity.parameters > 0

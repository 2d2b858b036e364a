"""What strangers upload instead of a model: each is refused with a stable code and a remedy, in no time."""

import contextlib
import gzip
import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as some
from onnx import TensorProto, helper

from engine.admission import admit
from engine.admission.wire import ENTERED_FIELDS, TEXT, check_wire
from engine.errors import ModelRejected
from tests.engine.admission.refusals import refusal, with_weight, written
from tests.models import Net, branching, mlp, recurrent, residual_cnn, small_cnn, transformer


@pytest.mark.parametrize("net", [small_cnn, residual_cnn, mlp, transformer, recurrent, branching])
def test_ordinary_models_pass(net: Callable[[], Net], tmp_path: Path) -> None:
    assert admit(net().save(tmp_path / "model.onnx")) == net().model()


# ── not a model ──────────────────────────────────────────────────────────────────────────────────────────────────────


def torch_like() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": 1}))
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


OTHER_FILES: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "model_not_onnx", "empty"),
    "pickle": (pickle.dumps({"a": 1}), "model_is_pickle", "pickle"),
    "torch checkpoint": (torch_like(), "model_is_pickle", "PyTorch"),
    "gzip": (gzip.compress(b"model"), "model_not_onnx", "gzip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "model_not_onnx", "HDF5"),
    "program": (b"\x7fELF\x02\x01\x01" + b"\0" * 64, "model_not_onnx", "program"),
    "ort format": (b"\x18\0\0\0ORTM" + b"\0" * 64, "model_not_onnx", "ONNX Runtime"),
    "tflite": (b"\x1c\0\0\0TFL3" + b"\0" * 64, "model_not_onnx", "TensorFlow Lite"),
    "safetensors": ((2).to_bytes(8, "little") + b'{"a": 1}', "model_not_onnx", "safetensors"),
    "gguf": (b"GGUF" + b"\0" * 64, "model_not_onnx", "GGUF"),
    "page": (b"<!doctype html><html></html>", "model_not_onnx", "HTML"),
    "json": (json.dumps({"model": 1}).encode(), "model_not_onnx", "JSON"),
    "numpy": (b"\x93NUMPY\x01\x00" + b"\0" * 64, "model_not_onnx", "NumPy"),
    "noise": (bytes(range(7, 255)) * 9, "model_not_onnx", ""),
    "zeros": (bytes(1000), "model_not_onnx", ""),
    "text": (b"hello, this is not a model at all\n" * 9, "model_not_onnx", ""),
    "another protobuf": (b"\x08\x01\x12\x04name", "model_not_onnx", "no graph"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_files_are_refused_and_named(kind: str, tmp_path: Path) -> None:
    content, code, word = OTHER_FILES[kind]
    error = refusal(written(tmp_path, content))
    assert error.code == code
    assert word in error.detail


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_model_is_refused(share: float, tmp_path: Path) -> None:
    content = residual_cnn().model().SerializeToString()
    assert refusal(written(tmp_path, content[: int(len(content) * share)])).code == "model_not_onnx"


@given(position=some.integers(0, 5000), value=some.integers(0, 255))
def test_a_flipped_byte_gives_a_model_or_a_refusal(position: int, value: int) -> None:
    content = bytearray(mlp(width=8).model().SerializeToString())
    content[position % len(content)] = value
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ModelRejected):
        admit(written(Path(folder), bytes(content)))


def test_text_that_is_no_text_is_refused(tmp_path: Path) -> None:
    content = mlp().model().SerializeToString().replace(b"features", b"featur\xff\xff")
    assert refusal(written(tmp_path, content)).code == "model_not_onnx"


# ── structure ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_walk_knows_every_message_of_onnx() -> None:
    assert ENTERED_FIELDS["ModelProto"][7] == "GraphProto"
    assert ENTERED_FIELDS["GraphProto"][1] == "NodeProto"
    assert ENTERED_FIELDS["AttributeProto"][6] == "GraphProto"
    assert ENTERED_FIELDS["TypeProto"][4] == "Sequence"
    assert ENTERED_FIELDS["NodeProto"][4] == TEXT


def test_the_walk_counts_and_steps_over_weights(tmp_path: Path) -> None:
    counts = check_wire(residual_cnn().save(tmp_path / "model.onnx"))
    assert counts["NodeProto"] == len(residual_cnn().nodes)
    assert counts["TensorProto"] == len(residual_cnn().weights)


def nested(depth: int) -> onnx.ModelProto:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "inner", [], [])
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "outer", [], [])
    return helper.make_model(graph)


def test_graphs_nested_too_deep_are_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, nested(20))).code == "model_nested_too_deep"


def test_types_nested_thousands_deep_are_refused_without_exhausting_the_stack(tmp_path: Path) -> None:
    content = b""
    for _ in range(5000):
        content = b"\x32" + varint(len(content)) + content  # AttributeProto.g …
        content = b"\x2a" + varint(len(content)) + content  # … in NodeProto.attribute …
        content = b"\x0a" + varint(len(content)) + content  # … in GraphProto.node
    assert refusal(written(tmp_path, b"\x3a" + varint(len(content)) + content)).code == "model_nested_too_deep"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_a_million_nodes_are_refused(tmp_path: Path) -> None:
    content = b"\x0a\x00" * 1_000_000
    assert refusal(written(tmp_path, b"\x3a" + varint(len(content)) + content)).code == "model_too_complex"


def test_an_endless_number_is_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, b"\x08" + b"\xff" * 100)).code == "model_not_onnx"


# ── tensors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


LYING: dict[str, Callable[[onnx.TensorProto], object]] = {
    "larger": lambda tensor: tensor.dims.append(1000),
    "smaller": lambda tensor: tensor.dims.pop(),
    "negative": lambda tensor: tensor.dims.append(-1),
    "overflowing": lambda tensor: tensor.dims.extend([2**62, 4]),
    "another type": lambda tensor: setattr(tensor, "data_type", TensorProto.DOUBLE),
    "unknown type": lambda tensor: setattr(tensor, "data_type", 99),
    "no data": lambda tensor: tensor.ClearField("raw_data"),
    "text as bytes": lambda tensor: setattr(tensor, "data_type", TensorProto.STRING),
}


@pytest.mark.parametrize("lie", LYING)
def test_a_tensor_that_lies_is_named(lie: str, tmp_path: Path) -> None:
    error = refusal(written(tmp_path, with_weight(LYING[lie])))
    assert error.code == "tensor_shape"
    assert "“w0”" in error.detail


def test_every_way_to_store_a_tensor_passes(tmp_path: Path) -> None:
    net = Net()
    for number, element in enumerate(
        (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.BOOL, TensorProto.INT64)
    ):
        net.weights.append(helper.make_tensor(f"typed{number}", element, [3], [1, 0, 1]))
    net.constant(np.array(["a", "b"], dtype=object), "text")
    net.constant(np.array([1 + 2j, 3j], np.complex64), "complex")
    net.op("Relu", net.input("x", [2]), name="y")
    admit(net.output("y", [2]).save(tmp_path / "model.onnx", opset=21, ir_version=10))


# ── operators ────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_node(operator: str, domain: str) -> onnx.ModelProto:
    net = Net()
    net.input("x", ["batch", 2])
    net.nodes.append(helper.make_node(operator, ["x"], ["y"], domain=domain, name="culprit"))
    return net.output("y", ["batch", 2]).model()


@pytest.mark.parametrize("domain", ["custom", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft.nchwc"])
def test_unknown_domains_are_refused_with_node_and_domain(domain: str, tmp_path: Path) -> None:
    error = refusal(written(tmp_path, with_node("Relu", domain)))
    assert error.code == "unknown_operator_domain"
    assert "culprit" in error.detail
    assert domain in error.detail


def test_an_unknown_domain_inside_a_branch_is_found(tmp_path: Path) -> None:
    model = branching().model()
    model.graph.node[0].attribute[0].g.node[0].domain = "custom"
    assert refusal(written(tmp_path, model)).code == "unknown_operator_domain"


def test_device_programs_are_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, with_node("EPContext", "com.microsoft"))).code == "device_program"


def test_contrib_and_classical_operators_pass(tmp_path: Path) -> None:
    admit(written(tmp_path, with_node("Gelu", "com.microsoft")))
    admit(written(tmp_path, with_node("Normalizer", "ai.onnx.ml")))


def with_functions(calls: dict[str, list[str]]) -> onnx.ModelProto:
    model = with_node(next(iter(calls)), "local")
    for name, callees in calls.items():
        body = [helper.make_node(callee, ["a"], ["b"], domain="local") for callee in callees]
        body = body or [helper.make_node("Relu", ["a"], ["b"])]
        model.functions.append(helper.make_function("local", name, ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    return model


@pytest.mark.parametrize(
    "calls",
    [
        {"f": ["f"]},
        {"f": ["g"], "g": ["f"]},
        {f"f{i}": [f"f{i + 1}"] for i in range(40)} | {"f40": []},
    ],
    ids=["itself", "in a circle", "too deep"],
)
def test_functions_that_never_end_are_refused(calls: dict[str, list[str]], tmp_path: Path) -> None:
    assert refusal(written(tmp_path, with_functions(calls))).code == "function_calls"


def test_functions_that_expand_to_millions_are_refused(tmp_path: Path) -> None:
    calls = {f"f{i}": [f"f{i + 1}"] * 10 for i in range(7)} | {"f7": []}
    assert refusal(written(tmp_path, with_functions(calls))).code == "model_too_complex"


def test_functions_that_call_each_other_in_order_pass(tmp_path: Path) -> None:
    admit(written(tmp_path, with_functions({"f": ["g", "h"], "g": ["h"], "h": []})))


# ── bombs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

HUGE = 40_000


def bomb(operator: str) -> onnx.ModelProto:
    net = Net()
    x = net.input("x", ["batch", 1])
    shape = net.constant(np.array([HUGE, HUGE]))
    small = net.weight(1, 1)
    inputs: dict[str, list[str]] = {
        "ConstantOfShape": [shape],
        "Expand": [small, shape],
        "Tile": [small, shape],
        "Range": [net.constant(np.array(0)), net.constant(np.array(2**40)), net.constant(np.array(1))],
        "Resize": [small, "", net.constant(np.array([HUGE, HUGE], np.float32))],
        "Pad": [small, net.constant(np.array([0, 0, HUGE, HUGE]))],
        "OneHot": [net.constant(np.zeros(HUGE, np.int64)), net.constant(np.array(HUGE)), net.constant(np.zeros(2))],
        "RandomNormal": [],
    }
    net.op(operator, *inputs[operator])
    if operator == "RandomNormal":
        net.nodes[-1].attribute.append(helper.make_attribute("shape", [HUGE, HUGE]))
    net.op("Relu", x, name="y")
    return net.output("y", ["batch", 1]).model()


@pytest.mark.parametrize(
    "operator", ["ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Pad", "OneHot", "RandomNormal"]
)
def test_bombs_are_refused(operator: str, tmp_path: Path) -> None:
    error = refusal(written(tmp_path, bomb(operator)))
    assert error.code == "model_bomb"
    assert operator in error.detail


def test_many_small_bombs_add_up(tmp_path: Path) -> None:
    net = Net()
    shape = net.constant(np.array([15_000, 15_000]))
    for _ in range(6):
        net.op("ConstantOfShape", shape)
    net.op("Relu", net.input("x", [1]), name="y")
    assert refusal(net.output("y", [1]).save(tmp_path / "model.onnx")).code == "model_bomb"


def test_a_chain_that_doubles_is_refused(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", ["batch", 1024])
    for _ in range(40):
        x = net.op("Concat", x, x, axis=1)
    assert refusal(net.output(x, ["batch", "size"]).save(tmp_path / "model.onnx")).code == "model_bomb"

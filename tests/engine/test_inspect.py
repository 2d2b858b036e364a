"""What a user learns about a file seconds after its upload."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.errors import DataRejected, ModelRejected
from engine.graph import save
from engine.inspect import inspect_dataset, inspect_model
from engine.recipe import QuantizeDynamic
from engine.report import ModelSummary
from engine.steps import Skipped
from tests.engine.attempts import DIGITS
from tests.engine.steps.outcome import run
from tests.models import Net, branching, mlp, recurrent, residual_cnn, small_cnn, transformer

TRAINED = {"prune_channels", "prune_weights", "replace_layers", "distill", "quantize_aware_training"}


def summary(model: onnx.ModelProto, tmp_path: Path) -> ModelSummary:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return inspect_model(path, tmp_path / "work").summary


def refusal(path: Path, folder: Path) -> ModelRejected:
    with pytest.raises(ModelRejected) as caught:
        inspect_model(path, folder)
    return caught.value


def test_the_summary_says_what_the_model_takes_and_costs(tmp_path: Path) -> None:
    found = summary(small_cnn().model(), tmp_path)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in found.inputs] == [
        ("image", "float32", ["batch", 3, 16, 16])
    ]
    assert found.outputs[0].shape == ["batch", 10]
    assert found.opset == 17
    assert found.operators["Conv"] == 2
    assert found.nodes == 10
    assert found.macs == 16 * 16 * 9 * 3 * 16 + 8 * 8 * 9 * 16 * 16 + 10 * 16
    assert found.parameters == 3 * 9 * 16 + 4 * 16 + 9 * 16 * 16 + 16 + 4 * 16 + 16 * 10 + 10
    assert found.warnings == []


def test_expected_memory_holds_weights_and_the_activations_alive_at_once(tmp_path: Path) -> None:
    found = summary(small_cnn().model(), tmp_path)
    two_largest = 2 * 16 * 16 * 16 * 4
    assert found.size_bytes + two_largest <= found.expected_memory_bytes < found.size_bytes + 2 * two_largest


@pytest.mark.parametrize(
    ("net", "fits"),
    [
        (
            residual_cnn,
            {"simplify_graph", "quantize_static", "quantize_weights", "convert_float16", *TRAINED},
        ),  # its one matrix has 160 values
        (
            transformer,
            {"simplify_graph", "quantize_static", "quantize_dynamic", "quantize_weights", "convert_float16", *TRAINED},
        ),
        (branching, {"simplify_graph", "distill"}),
    ],
)
def test_steps_that_fit_are_listed_and_the_others_say_why(
    net: Callable[[], Net], fits: set[str], tmp_path: Path
) -> None:
    found = summary(net().model(), tmp_path)
    assert {step.kind for step in found.steps if step.applies} == fits
    assert all(step.applies or step.reason for step in found.steps)


@pytest.mark.parametrize("version", range(7, 24))
def test_every_opset_is_inspected(version: int, tmp_path: Path) -> None:
    net = Net()
    net.op("Relu", net.conv(net.input("x", [1, 3, 4, 4]), (3, 3)), name="y")
    model = net.output("y", [1, 3, 4, 4]).model(version, ir_version=min(11, max(3, version - 6)))
    assert summary(model, tmp_path).opset == version


def test_old_models_that_list_weights_as_inputs_get_a_warning(tmp_path: Path) -> None:
    net = mlp()
    for weight in net.weights:
        net.inputs.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    found = summary(net.model(9, ir_version=3), tmp_path)
    assert [tensor.name for tensor in found.inputs] == ["features"]
    assert any("also inputs" in words for words in found.warnings)
    assert any("Opset 9" in words for words in found.warnings)


def test_recurrent_half_precision_and_control_flow_are_inspected(tmp_path: Path) -> None:
    assert summary(recurrent().model(), tmp_path).operators["LSTM"] == 1
    assert any("branches" in words for words in summary(branching().model(), tmp_path).warnings)
    half = Net()
    weight = half.constant(np.ones((4, 4), np.float16))
    half.op("MatMul", half.input("x", ["n", 4], TensorProto.FLOAT16), weight, name="y")
    found = summary(half.output("y", ["n", 4], TensorProto.FLOAT16).model(), tmp_path)
    assert any("half" in words for words in found.warnings)


def test_classical_models_and_text_are_inspected(tmp_path: Path) -> None:
    net = Net()
    net.input("words", ["n"], TensorProto.STRING)
    node = helper.make_node(
        "LabelEncoder", ["words"], ["codes"], domain="ai.onnx.ml", keys_strings=["a", "b"], values_int64s=[1, 2]
    )
    net.nodes.append(node)
    model = net.output("codes", ["n"], TensorProto.INT64).model()
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    found = summary(model, tmp_path)
    assert found.inputs[0].dtype == "string"
    assert found.operators == {"ai.onnx.ml.LabelEncoder": 1}
    assert all(step.reason for step in found.steps if step.kind.startswith("quantize"))


def test_inputs_that_no_data_set_can_feed_get_a_warning(tmp_path: Path) -> None:
    net = Net()
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    net.inputs.append(helper.make_value_info("parts", helper.make_sequence_type_proto(tensor)))
    net.op("ConcatFromSequence", "parts", name="y", axis=0)
    found = summary(net.output("y", ["n"]).model(), tmp_path)
    assert any("parts" in words for words in found.warnings)


@pytest.mark.parametrize(
    "oddity", ["wrong output shape", "unused weight", "odd names", "no names", "input is output", "no shape"]
)
def test_oddities_that_run_anyway_are_accepted(oddity: str, tmp_path: Path) -> None:
    net = mlp()
    model = net.model()
    graph = model.graph
    if oddity == "wrong output shape":
        graph.output[0].type.tensor_type.shape.dim[1].dim_value = 99
    elif oddity == "unused weight":
        graph.initializer.append(numpy_helper.from_array(np.zeros(7, np.float32), "unused"))
    elif oddity == "odd names":
        graph.node[0].name = "<script>alert(1)</script>\n/../🙂"
    elif oddity == "no names":
        for node in graph.node:
            node.ClearField("name")
    elif oddity == "input is output":
        graph.output.append(graph.input[0])
    else:
        graph.output[0].type.tensor_type.ClearField("shape")
    assert summary(model, tmp_path).nodes == len(net.nodes)


@pytest.mark.parametrize("fault", ["unknown operator", "dangling input", "cycle", "type clash", "no opset"])
def test_models_that_do_not_load_are_refused_with_the_runtimes_reason(fault: str, tmp_path: Path) -> None:
    model = mlp().model()
    node = model.graph.node[0]
    if fault == "unknown operator":
        node.op_type = "Multiplicate"
    elif fault == "dangling input":
        node.input[0] = "nowhere"
    elif fault == "cycle":
        node.input[0] = model.graph.node[2].output[0]
    elif fault == "type clash":
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    else:
        del model.opset_import[:]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    error = refusal(path, tmp_path / "work")
    assert error.code == "model_does_not_load"
    assert str(tmp_path) not in error.detail
    assert "onnxruntime/" not in error.detail


def test_a_locale_that_is_not_installed_is_asked_for(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]> text (string[N] x) => (string[N] y) {
        y = StringNormalizer <case_change_action = "LOWER", locale = "xx_XX.UTF-8"> (x)
    }""")
    error = refusal(save(model, tmp_path / "model.onnx"), tmp_path / "work")
    assert "xx_XX.UTF-8" in error.detail
    assert "Install this locale" in error.remedy


def test_nodes_of_the_same_name_are_to_be_given_others(tmp_path: Path) -> None:
    model = mlp().model()
    for node in model.graph.node:
        node.name = "node"
    error = refusal(save(model, tmp_path / "model.onnx"), tmp_path / "work")
    assert "a name of its own" in error.remedy


# ── bundles ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def bundle(folder: Path, prefix: str = "", *, leave_out: bool = False, other: str = "") -> Path:
    """A zip of a model and its data file, as `onnx.save_model(…, save_as_external_data=True)` makes it."""
    folder.mkdir(exist_ok=True)
    model = mlp().model()
    onnx.save_model(model, folder / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with zipfile.ZipFile(folder / "bundle.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "net.onnx", f"{prefix}net.onnx")
        if not leave_out:
            archive.write(folder / "weights.bin", f"{prefix}weights.bin")
        if other:
            archive.writestr(other, b"hello")
    return folder / "bundle.zip"


@pytest.mark.parametrize("prefix", ["", "model/"])
@pytest.mark.parametrize("other", ["", "README.md", "__MACOSX/._net"])
def test_a_bundle_becomes_one_file(prefix: str, other: str, tmp_path: Path) -> None:
    found = inspect_model(bundle(tmp_path / "upload", prefix, other=other), tmp_path / "work")
    assert found.canonical is not None
    joined = onnx.load(found.canonical, load_external_data=False)
    assert {tensor.data_location for tensor in joined.graph.initializer} == {TensorProto.DEFAULT}
    for ours, original in zip(joined.graph.initializer, mlp().model().graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(original))
    assert found.summary.size_bytes == found.canonical.stat().st_size


def test_a_plain_model_is_its_own_canonical_form(tmp_path: Path) -> None:
    assert inspect_model(mlp().save(tmp_path / "model.onnx"), tmp_path / "work").canonical is None


def test_a_bundle_without_its_data_says_what_is_missing(tmp_path: Path) -> None:
    error = refusal(bundle(tmp_path / "upload", leave_out=True), tmp_path / "work")
    assert error.code == "external_data_missing"
    assert "weights.bin" in error.detail


def test_a_bundle_with_two_models_is_refused(tmp_path: Path) -> None:
    assert refusal(bundle(tmp_path / "upload", other="second.onnx"), tmp_path / "work").code == "bundle_members"


def test_a_zip_without_a_model_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros(3))
    assert refusal(tmp_path / "data.npz", tmp_path / "work").code == "bundle_members"


def test_a_bundle_cannot_reach_outside_of_itself(tmp_path: Path) -> None:
    path = bundle(tmp_path / "upload", prefix="model/", leave_out=True, other="weights.bin")
    assert refusal(path, tmp_path / "work").code == "external_data_missing"


# ── data sets ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_data_set_is_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", image=np.zeros((5, 3, 2), np.float32), labels=np.arange(5))
    found = inspect_dataset(tmp_path / "data.npz", tmp_path / "work")
    assert found.samples == 5
    assert [(array.name, array.dtype, array.shape) for array in found.arrays] == [
        ("image", "float32", [5, 3, 2]),
        ("labels", "int64", [5]),
    ]


def test_arrays_of_a_data_set_have_one_length(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", image=np.zeros((5, 3)), labels=np.arange(4))
    with pytest.raises(DataRejected) as caught:
        inspect_dataset(tmp_path / "data.npz", tmp_path / "work")
    assert caught.value.code == "dataset_length"


def test_an_inspection_and_the_step_agree_on_matrices_that_are_too_small(tmp_path: Path) -> None:
    """The digits' matrix has 640 values: the step skips it, so the inspection must not promise it."""
    path = DIGITS / "model.onnx"
    found = inspect_model(path, tmp_path).summary
    (promised,) = [step for step in found.steps if step.kind == "quantize_dynamic"]
    skipped = run(QuantizeDynamic(), path, tmp_path / "out")
    assert isinstance(skipped, Skipped) and not promised.applies
    assert promised.reason == skipped.reason
    large = small_cnn(width=128).save(tmp_path / "large.onnx")
    assert "quantize_dynamic" in {step.kind for step in inspect_model(large, tmp_path).summary.steps if step.applies}

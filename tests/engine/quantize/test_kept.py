"""What a user wants to stay in float is found again after nodes were fused."""

from pathlib import Path

import pytest

from engine.graph import load
from engine.quantize.kept import kept_outputs, unknown
from engine.quantize.plan import plan
from engine.quantize.prepare import prepared
from tests.engine.steps.outcome import made_up
from tests.models import mlp, recurrent, small_cnn


def test_entries_that_name_nothing_are_reported_in_their_order() -> None:
    model = small_cnn().model()
    assert unknown(model, ("Conv", "conv", model.graph.node[0].name, "scores", "")) == ["conv", ""]


@pytest.mark.parametrize("place", [0, 1])
def test_either_name_of_a_fused_layer_keeps_it_float(place: int, tmp_path: Path) -> None:
    path = small_cnn().save(tmp_path / "model.onnx")
    original, graph = load(path), prepared(path, made_up(path), tmp_path)
    assert not isinstance(graph, str)
    convolution, norm = original.graph.node[0], original.graph.node[1]
    assert (convolution.op_type, norm.op_type) == ("Conv", "BatchNormalization")
    before = plan(graph)
    for entry in (original.graph.node[place].name, original.graph.node[place].output[0]):
        after = plan(graph, keep_float=kept_outputs(original, graph, (entry,)))
        assert set(before.layers) - set(after.layers) == {norm.output[0]}


def test_a_type_means_layers_that_began_as_it_and_not_what_they_took_in(tmp_path: Path) -> None:
    path = mlp().save(tmp_path / "model.onnx")
    original, graph = load(path), prepared(path, made_up(path), tmp_path)
    assert not isinstance(graph, str)
    assert "MatMul" not in {node.op_type for node in graph.graph.node}
    kept = kept_outputs(original, graph, ("MatMul",))
    assert set(plan(graph, keep_float=kept).layers) == {"scores"}
    assert kept_outputs(original, graph, ("Add",)) == ()


def test_a_relu_that_stays_float_leaves_the_range_before_it() -> None:
    model = small_cnn().model()
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    found = plan(model, keep_float=(relu.name,))
    assert relu.output[0] not in found.passing


def test_a_node_whose_first_output_is_left_out_is_kept_by_its_second() -> None:
    model = recurrent().model()
    assert kept_outputs(model, model, ("LSTM",)) == ("last",)

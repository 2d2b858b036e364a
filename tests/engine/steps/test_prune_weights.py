"""Weight pruning: which weights become zero, and what the step says of the file."""

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper
from pydantic import ValidationError

from engine.graph import load, operators
from engine.recipe import Distill, EightBits, PruneWeights, QuantizeAwareTraining, Step, Target
from engine.steps import STEPS, StepContext
from engine.steps.prune_weights import zipped_bytes
from tests.engine.steps.outcome import FIXED, made_up, sqnr_db, variants
from tests.models import mlp, small_cnn, transformer

RESIDUAL = Path("examples/fashion/residual.onnx")
FORMAT = {name: getattr(FIXED, name) for name in EightBits.model_fields}


def weights(path: Path) -> dict[str, np.ndarray]:
    return {weight.name: numpy_helper.to_array(weight) for weight in load(path).graph.initializer}


def test_the_smallest_weights_of_each_layer_become_zero(tmp_path: Path) -> None:
    (variant,) = variants(PruneWeights(ratio=0.3), RESIDUAL, tmp_path / "out")
    before, after = weights(RESIDUAL), weights(variant.path)
    large = [name for name, values in before.items() if values.ndim > 1 and values.size >= 1024]
    assert large
    for name in large:
        gone = after[name] == 0
        assert gone.mean() == pytest.approx(0.3, abs=0.01)
        assert np.abs(before[name][gone]).max() <= np.abs(before[name][~gone]).min()
        assert np.array_equal(before[name][~gone], after[name][~gone])
    assert operators(load(variant.path)) == operators(load(RESIDUAL))
    assert sqnr_db(RESIDUAL, variant.path) > 10


def test_a_pattern_leaves_so_many_of_each_group_that_is_summed_up(tmp_path: Path) -> None:
    path = transformer().save(tmp_path / "model.onnx")
    (variant,) = variants(PruneWeights(pattern="2:4"), path, tmp_path / "out")
    products = [node.input[1] for node in load(path).graph.node if node.op_type == "MatMul"]
    pruned = [name for name in products if name in weights(path)]
    assert pruned
    for name in pruned:
        columns = weights(variant.path)[name].T
        assert ((columns.reshape(len(columns), -1, 4) != 0).sum(2) == 2).all()


def test_the_kernels_of_a_convolution_are_summed_over_their_channels(tmp_path: Path) -> None:
    path = small_cnn(width=32).save(tmp_path / "model.onnx")
    (variant,) = variants(PruneWeights(pattern="1:4"), path, tmp_path / "out")
    kernel = next(values for values in weights(variant.path).values() if values.shape == (32, 32, 3, 3))
    assert ((kernel.reshape(32, -1, 4) != 0).sum(2) == 1).all()


def test_embeddings_are_left_alone(tmp_path: Path) -> None:
    path = transformer().save(tmp_path / "model.onnx")
    table = next(node.input[0] for node in load(path).graph.node if node.op_type == "Gather")
    (variant,) = variants(PruneWeights(ratio=0.9), path, tmp_path / "out")
    assert np.array_equal(weights(path)[table], weights(variant.path)[table])


def test_the_label_says_what_it_saves_and_what_it_does_not(tmp_path: Path) -> None:
    (variant,) = variants(PruneWeights(ratio=0.8), RESIDUAL, tmp_path / "out")
    assert zipped_bytes(variant.path) < 0.5 * zipped_bytes(RESIDUAL)
    assert "80" in variant.label
    assert "as long as before" in variant.label


@pytest.mark.parametrize("pattern", ["4:4", "5:4", "0:4", "2:1", "a:b"])
def test_a_pattern_that_keeps_all_or_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        PruneWeights(pattern=pattern)


@pytest.mark.parametrize("step", [PruneWeights(ratio=0.6), PruneWeights(pattern="2:4")], ids=["ratio", "pattern"])
@pytest.mark.parametrize(
    "behind",
    [
        Distill(steps=6, batch_size=8, learning_rate=3e-3),
        FIXED.model_copy(update={"fit_rounding": True}),
        QuantizeAwareTraining(**FORMAT, steps=6, batch_size=8, learning_rate=3e-3),
        QuantizeAwareTraining(**FORMAT | {"fit_rounding": True}, steps=6, batch_size=8, learning_rate=3e-3),
    ],
    ids=["distill", "quantize_static", "quantize_aware_training", "from fitted weights"],
)
def test_zeros_stay_zero_whatever_comes_behind(step: PruneWeights, behind: Step, tmp_path: Path) -> None:
    path = mlp().save(tmp_path / "model.onnx")
    (pruned,) = variants(step, path, tmp_path / "pruned")
    (after,) = variants(behind, pruned.path, tmp_path / "after")
    assert share_of_zeros(after.path) >= share_of_zeros(pruned.path)
    assert sqnr_db(pruned.path, after.path) < 100


def test_a_pruned_network_that_is_quantized_already_keeps_its_zeros_as_it_learns(tmp_path: Path) -> None:
    path = mlp().save(tmp_path / "model.onnx")
    (pruned,) = variants(PruneWeights(pattern="2:4"), path, tmp_path / "pruned")
    (static,) = variants(FIXED, pruned.path, tmp_path / "static")
    step = QuantizeAwareTraining(**FORMAT, steps=6, batch_size=8, learning_rate=1e-2)
    context = StepContext(made_up(path), tmp_path / "after", Target(), 0, original=path, cores=1)
    outcome = STEPS[QuantizeAwareTraining].run(step, static.path, context)
    assert isinstance(outcome, list), outcome
    assert share_of_zeros(outcome[0].path) >= share_of_zeros(pruned.path)
    assert sqnr_db(static.path, outcome[0].path) < 100


def share_of_zeros(path: Path) -> float:
    large = [values for values in weights(path).values() if values.ndim > 1 and values.size >= 1024]
    return float(np.concatenate([values.ravel() == 0 for values in large]).mean())

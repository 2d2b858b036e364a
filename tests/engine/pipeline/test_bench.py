"""A candidate must be a stand-in for the original."""

from pathlib import Path

import pytest

from engine.errors import StepFailed
from engine.measure.lock import HostLock
from engine.pipeline.bench import Bench, check_interface
from engine.recipe import Range, Recipe
from engine.report import Comparison, TensorInfo
from engine.signature import Signature
from tests.engine.pipeline.candidates import interval
from tests.engine.steps.outcome import FIXED, made_up, variants
from tests.models import small_cnn

ORIGINAL = Signature.of(small_cnn().model())


def changed(**update: object) -> Signature:
    output = ORIGINAL.outputs[0].model_copy(update=update)
    return Signature(ORIGINAL.inputs, (output,))


def test_the_same_interface_is_accepted() -> None:
    check_interface(ORIGINAL, Signature.of(small_cnn(width=32).model()))


def test_a_dimension_may_lose_its_name() -> None:
    check_interface(ORIGINAL, changed(shape=[None, 10]))


@pytest.mark.parametrize(
    "update", [{"name": "probabilities"}, {"dtype": "uint8"}, {"shape": ["batch", 11]}, {"shape": ["batch", 10, 1]}]
)
def test_another_name_type_size_or_rank_is_refused(update: dict[str, object]) -> None:
    with pytest.raises(StepFailed, match="cannot stand in"):
        check_interface(ORIGINAL, changed(**update))


def test_an_input_that_is_gone_is_refused() -> None:
    gone = Signature((), ORIGINAL.outputs)
    with pytest.raises(StepFailed):
        check_interface(ORIGINAL, gone)


def test_the_original_is_described_by_tensors() -> None:
    assert ORIGINAL.inputs[0] == TensorInfo(name="image", dtype="float32", shape=["batch", 3, 16, 16])


def emulated(weight_range: Range, folder: Path, *, saturates: bool) -> Comparison:
    """What becomes known of a file of which this CPU made 30 dB."""
    original = small_cnn().save(folder / "original.onnx")
    (variant, *_) = variants(FIXED.model_copy(update={"weight_range": weight_range}), original, folder / "step")
    recipe, samples = Recipe(steps=[FIXED]), made_up(original, 40)
    bench = Bench(original, recipe, ORIGINAL, samples, folder / "bench", HostLock(None), saturates=saturates)
    return bench.emulated(variant.path, Comparison(accuracy_drop=interval(0.0), sqnr_db=30.0))


def test_full_weights_are_computed_as_other_cpus_do(tmp_path: Path) -> None:
    found = emulated(Range.FULL, tmp_path, saturates=False)
    assert found.emulated_samples == 40
    assert found.emulated_drop is not None and found.emulated_sqnr_db is not None


def test_seven_bits_are_known_to_be_the_same_without_a_run(tmp_path: Path) -> None:
    found = emulated(Range.REDUCED, tmp_path, saturates=False)
    assert (found.emulated_samples, found.emulated_sqnr_db, found.emulated_drop) == (0, 30.0, interval(0.0))

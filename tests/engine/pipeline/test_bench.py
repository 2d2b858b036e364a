"""A candidate must be a stand-in for the original."""

import pytest

from engine.errors import StepFailed
from engine.pipeline.bench import check_interface
from engine.report import TensorInfo
from engine.signature import Signature
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

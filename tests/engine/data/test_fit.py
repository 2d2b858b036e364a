"""Do these arrays fit this model? Each refusal names the array and says what to type."""

from pathlib import Path

import numpy as np
import pytest

from engine.data import Samples, fit_samples, open_samples
from engine.errors import DataRejected
from engine.report import TensorInfo
from engine.signature import Signature
from tests.models import Net

Dimensions = list[int | str | None]


def signature(dtype: str = "float32", **shapes: Dimensions | None) -> Signature:
    return Signature(tuple(TensorInfo(name=name, dtype=dtype, shape=shape) for name, shape in shapes.items()), ())


def fit(wanted: Signature, labels_name: str | None = None, **arrays: np.ndarray) -> Samples:
    return fit_samples(arrays, wanted, labels_name)


def refusal(wanted: Signature, labels_name: str | None = None, **arrays: np.ndarray) -> DataRejected:
    with pytest.raises(DataRejected) as caught:
        fit_samples(arrays, wanted, labels_name)
    return caught.value


IMAGE = signature(image=["batch", 3, 8, 8])
IMAGES = np.zeros((10, 3, 8, 8), np.float32)


def test_arrays_are_matched_by_name() -> None:
    samples = fit(signature(a=["n", 2], b=["n", 3]), b=np.ones((4, 3), np.float32), a=np.zeros((4, 2), np.float32))
    feeds = next(samples.batches(2))
    assert feeds["a"].shape == (2, 2)
    assert feeds["b"].shape == (2, 3)


def test_the_only_array_feeds_the_only_input_whatever_its_name() -> None:
    samples = fit(IMAGE, x_test=IMAGES, labels=np.arange(10))
    assert len(samples) == 10
    assert samples.notes == ("The array “x_test” was taken for the input “image”, since there is but one of each.",)


def test_an_array_that_nothing_reads_is_told_of() -> None:
    assert fit(IMAGE, image=IMAGES, labels=np.arange(10)).notes == ()
    assert "“weights”" in fit(IMAGE, image=IMAGES, weights=np.ones(10)).notes[0]


@pytest.mark.parametrize("name", ["labels", "label", "y", "targets"])
def test_labels_are_found_by_name(name: str) -> None:
    labels = fit_samples({"image": IMAGES, name: np.arange(10)}, IMAGE, None).labels
    assert labels is not None
    assert labels.tolist() == list(range(10))


def test_an_input_named_y_is_no_label() -> None:
    assert fit(signature(y=["n", 2]), y=np.zeros((3, 2), np.float32)).labels is None


def test_labels_that_were_named_must_be_there() -> None:
    error = refusal(IMAGE, "classes", image=IMAGES)
    assert error.code == "labels_missing"
    assert "classes" in error.detail


def test_a_missing_array_is_named_with_those_that_are_there() -> None:
    error = refusal(signature(a=["n"], b=["n"]), a=np.zeros(3, np.float32), c=np.zeros(3, np.float32))
    assert error.code == "dataset_names"
    assert "“b”" in error.detail
    assert "“c”" in error.detail
    assert "numpy.savez" in error.remedy


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        (np.zeros((10, 8, 8, 3), np.float32), "transpose(0, 3, 1, 2)"),
        (np.zeros((10, 3, 8, 9), np.float32), "(N, 3, 8, 8)"),
        (np.zeros((10, 192), np.float32), "(N, 3, 8, 8)"),
    ],
)
def test_a_wrong_shape_is_told_with_the_remedy(array: np.ndarray, hint: str) -> None:
    error = refusal(IMAGE, image=array)
    assert error.code == "dataset_shape"
    assert str(array.shape) in error.detail
    assert hint in error.remedy


def test_a_missing_channel_axis_is_told() -> None:
    error = refusal(signature(image=["n", 1, 8, 8]), image=np.zeros((5, 8, 8), np.float32))
    assert error.remedy == "Add the missing axis with x[:, None]."


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("float64", "float32"),
        ("float32", "float16"),
        ("int32", "int64"),
        ("int64", "int32"),
        ("uint8", "int64"),
        (">f4", "float32"),
    ],
)
def test_numbers_of_the_same_kind_are_cast(given: str, wanted: str) -> None:
    samples = fit(signature(wanted, x=["n", 2]), x=np.ones((3, 2), given))
    assert next(samples.batches(3))["x"].dtype == wanted


@pytest.mark.parametrize(
    ("given", "wanted"), [("uint8", "float32"), ("float32", "int64"), ("bool", "float32"), ("<U3", "float32")]
)
def test_numbers_of_another_kind_are_refused_with_the_remedy(given: str, wanted: str) -> None:
    error = refusal(signature(wanted, x=["n", 2]), x=np.zeros((3, 2), given))
    assert error.code == "dataset_dtype"
    assert f"astype('{wanted}')" in error.remedy


def test_integers_that_do_not_fit_are_refused() -> None:
    assert refusal(signature("int32", x=["n"]), x=np.array([1, 2**40])).code == "dataset_dtype"
    assert refusal(signature("uint8", x=["n"]), x=np.array([1, -1])).code == "dataset_dtype"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named_with_their_first_row(bad: float) -> None:
    images = IMAGES.copy()
    images[7, 1, 2, 3] = bad
    images[9] = bad
    error = refusal(IMAGE, image=images)
    assert error.code == "dataset_not_finite"
    assert "row 7" in error.detail


def test_a_value_that_overflows_in_the_models_type_is_not_finite() -> None:
    assert refusal(signature("float16", x=["n"]), x=np.array([1.0, 1e9])).code == "dataset_not_finite"


def test_arrays_of_different_length_are_refused() -> None:
    error = refusal(IMAGE, image=IMAGES, labels=np.arange(9))
    assert error.code == "dataset_length"
    assert "labels" in error.detail


def test_a_name_of_a_dimension_means_one_size() -> None:
    tokens = signature("int64", ids=["batch", "length"], mask=["batch", "length"])
    assert refusal(tokens, ids=np.zeros((4, 7), np.int64), mask=np.zeros((4, 8), np.int64)).code == "dataset_shape"


def test_text_feeds_a_text_input() -> None:
    samples = fit(signature("string", x=["n"]), x=np.array(["a", "bc"]))
    assert next(samples.batches(2))["x"].tolist() == ["a", "bc"]


def test_an_input_that_no_array_can_feed_is_told() -> None:
    assert refusal(signature("sequence", x=None), x=np.zeros(3, np.float32)).code == "input_type_unsupported"


# ── batch axes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_fixed_batch_takes_that_many_rows_and_leaves_out_an_incomplete_last_run() -> None:
    samples = fit(signature(x=[4, 2]), x=np.arange(22, dtype=np.float32).reshape(11, 2), labels=np.arange(11))
    assert samples.rows_per_run == 4
    assert [feeds["x"].shape for feeds in samples.batches(1)] == [(4, 2), (4, 2)]
    assert samples.labels is not None
    assert samples.labels.tolist() == list(range(8))


def test_too_few_rows_for_one_run_are_refused() -> None:
    error = refusal(signature(x=[4, 2]), x=np.zeros((3, 2), np.float32))
    assert error.code == "dataset_too_few_samples"


def test_a_row_can_be_a_whole_input() -> None:
    samples = fit(signature(x=[3, 8, 8]), x=IMAGES)
    assert samples.whole
    assert [feeds["x"].shape for feeds in samples.batches(4)] == [(3, 8, 8)] * 10


def test_a_state_is_stacked_and_a_scalar_is_the_same_for_all() -> None:
    wanted = Signature(
        (
            TensorInfo(name="x", dtype="float32", shape=["batch", 5]),
            TensorInfo(name="state", dtype="float32", shape=[2, "batch", 4]),
            TensorInfo(name="rate", dtype="int64", shape=[]),
        ),
        (),
    )
    samples = fit(
        wanted, x=np.zeros((6, 5), np.float32), state=np.zeros((6, 2, 1, 4), np.float32), rate=np.array(16000)
    )
    feeds = next(samples.batches(4))
    assert {name: value.shape for name, value in feeds.items()} == {"x": (1, 5), "state": (2, 1, 4), "rate": ()}
    assert feeds["rate"] == 16000


def test_scalar_inputs_may_differ_from_row_to_row() -> None:
    samples = fit(signature("int64", rate=[]), rate=np.array([8000, 16000]))
    assert [int(feeds["rate"]) for feeds in samples.batches(1)] == [8000, 16000]


def test_files_are_opened_and_fitted(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "data.npz", image=IMAGES, labels=np.arange(10))
    assert len(open_samples(tmp_path / "data.npz", IMAGE, None, tmp_path / "work")) == 10


def test_a_question_mark_is_no_name_of_a_size() -> None:
    """Paddle writes “?” for every open dimension, be they equal or not."""
    net = Net()
    wanted = Signature.of(net.output(net.op("Relu", net.input("x", ["?", 3, "?", "?"])), ["?", 3, "?", "?"]).model())
    assert wanted.inputs[0].shape == [None, 3, None, None]
    assert len(fit(wanted, x=np.zeros((4, 3, 48, 192), np.float32))) == 4

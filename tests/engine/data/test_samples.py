"""Rows in order: batches, splits, the handover to another process, and made-up rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as some

from engine.data import Samples, fit_samples, load_samples, open_samples, save_samples, synthetic_samples
from engine.errors import DataRejected
from engine.report import TensorInfo
from engine.signature import Signature
from tests.models import Net, branching, mlp, recurrent, small_cnn, transformer

WANTED = Signature((TensorInfo(name="x", dtype="float32", shape=["batch", 2]),), ())


def numbered(count: int, per_run: int | None = None) -> Samples:
    """Rows that carry their own number."""
    wanted = WANTED if per_run is None else Signature((TensorInfo(name="x", dtype="float32", shape=[per_run, 2]),), ())
    values = np.repeat(np.arange(count, dtype=np.float32)[:, None], 2, axis=1)
    return fit_samples({"x": values, "labels": np.arange(count)}, wanted, None)


@given(count=some.integers(1, 40), size=some.integers(1, 50))
def test_batches_hold_every_row_once_and_in_order(count: int, size: int) -> None:
    batches = [feeds["x"][:, 0] for feeds in numbered(count).batches(size)]
    assert np.concatenate(batches).tolist() == list(range(count))
    assert all(len(batch) <= size for batch in batches)


def resident_file_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


def test_what_was_read_of_a_file_does_not_stay_in_memory(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.ones((1000, 10_000), np.float32))
    wanted = Signature((TensorInfo(name="x", dtype="float32", shape=["batch", 10_000]),), ())
    before = resident_file_bytes()
    samples = open_samples(tmp_path / "data.npz", wanted, None, tmp_path)
    grown = [resident_file_bytes() - before, *(resident_file_bytes() - before for _ in samples.batches(8))]
    assert max(grown) < 8_000_000  # of 40 MB


@given(count=some.integers(2, 60), seed=some.integers(0, 2**32 - 1), unit=some.sampled_from([None, 1, 2]))
def test_a_split_is_disjoint_complete_and_repeatable(count: int, seed: int, unit: int | None) -> None:
    samples = numbered(count * (unit or 1), unit)
    calibration, evaluation = samples.split(seed)
    assert sorted([*calibration.rows, *evaluation.rows]) == samples.rows.tolist()
    assert len(calibration) > 0
    assert len(evaluation) > 0
    again = samples.split(seed)
    assert again[0].rows.tolist() == calibration.rows.tolist()


def test_labels_follow_their_rows_through_a_split() -> None:
    _, evaluation = numbered(30).split(1)
    assert evaluation.labels is not None
    shown = [feeds["x"][0, 0] for feeds in evaluation.batches(1)]
    assert shown == evaluation.labels.tolist()


def test_another_seed_splits_differently() -> None:
    assert numbered(30).split(1)[0].rows.tolist() != numbered(30).split(2)[0].rows.tolist()


def test_one_sample_cannot_be_split() -> None:
    with pytest.raises(DataRejected) as caught:
        numbered(1).split(0)
    assert caught.value.code == "dataset_too_few_samples"


def test_the_first_rows_are_at_least_one_run() -> None:
    assert len(numbered(30).first(7)) == 7
    assert len(numbered(32, per_run=4).first(7)) == 4
    assert len(numbered(32, per_run=4).first(1)) == 4


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_samples_can_be_handed_to_another_process(save: Callable[..., None], tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((9, 2))
    save(tmp_path / "data.npz", x=np.asfortranarray(x), y=np.arange(9))
    samples = open_samples(tmp_path / "data.npz", WANTED, None, tmp_path / "work").split(0)[1]
    received = load_samples(save_samples(samples, tmp_path / "note"))
    assert received.labels is not None
    assert samples.labels is not None
    assert received.labels.tolist() == samples.labels.tolist()
    for ours, theirs in zip(samples.batches(2), received.batches(2), strict=True):
        np.testing.assert_array_equal(ours["x"], theirs["x"])


# ── made up ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("net", [small_cnn, mlp, transformer, recurrent, branching])
def test_made_up_samples_run_through_the_model(net: Callable[[], Net]) -> None:
    model = net().model()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    samples = synthetic_samples(Signature.of(model), 5, 0)
    assert samples.synthetic
    for feeds in samples.batches(2):
        session.run(None, feeds)


def test_a_made_up_sampling_rate_is_one_that_speech_models_take() -> None:
    rate = TensorInfo(name="sr", dtype="int64", shape=[])
    (feeds,) = synthetic_samples(Signature((rate,), ()), 1, 0).batches(1)
    assert feeds["sr"] == 16_000


def test_made_up_integers_stay_inside_any_table_and_masks_are_ones() -> None:
    shape = ["batch", "length"]
    inputs = tuple(TensorInfo(name=name, dtype="int64", shape=list(shape)) for name in ("ids", "attention_mask"))
    feeds = next(synthetic_samples(Signature(inputs, ()), 4, 0).batches(4))
    assert set(feeds["ids"].ravel().tolist()) <= {0, 1}
    assert feeds["attention_mask"].all()
    assert feeds["ids"].shape == feeds["attention_mask"].shape


def test_made_up_samples_are_the_same_for_the_same_seed() -> None:
    first, again, other = (next(synthetic_samples(WANTED, 4, seed).batches(4))["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_fixed_first_axis_is_a_batch_only_if_the_outputs_share_it() -> None:
    tensor = TensorInfo(name="x", dtype="float32", shape=[3, 8, 8])
    whole = synthetic_samples(Signature((tensor,), (TensorInfo(name="y", dtype="float32", shape=[10]),)), 4, 0)
    batched = synthetic_samples(Signature((tensor,), (TensorInfo(name="y", dtype="float32", shape=[3, 2]),)), 4, 0)
    assert next(whole.batches(2))["x"].shape == next(batched.batches(2))["x"].shape == (3, 8, 8)
    assert (len(whole), len(batched)) == (4, 3)


def test_an_input_without_a_numpy_type_cannot_be_made_up() -> None:
    tensor = TensorInfo(name="x", dtype="bfloat16", shape=["n"])
    with pytest.raises(DataRejected) as caught:
        synthetic_samples(Signature((tensor,), ()), 4, 0)
    assert caught.value.code == "input_type_unsupported"


def test_training_learns_from_more_rows_and_leaves_enough_to_judge_by() -> None:
    assert [len(part) for part in numbered(3000).split(0, for_training=True)] == [2000, 1000]
    assert [len(part) for part in numbered(600).split(0, for_training=True)] == [300, 300]
    assert [len(part) for part in numbered(60).split(0, for_training=True)] == [20, 40]

"""Graphs that lost something learn it again from the graph they came from, through the real kernels."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engine.data import Feeds, Samples
from engine.graph import load, save
from engine.recover import Classroom, Options, Recovered, recover
from engine.recover.features import features, showing
from engine.recover.snapshot import MOST_KEPT
from tests.engine.recover.pupils import attempt, samples_for, taught, without_weights
from tests.engine.steps.outcome import outputs, shaken, sqnr_db
from tests.models import Net, depthwise_cnn, mlp, recurrent, residual_cnn, small_cnn, transformer


@pytest.mark.parametrize("net", [mlp, small_cnn, residual_cnn, depthwise_cnn, transformer, recurrent])
def test_what_noise_took_from_the_weights_comes_back(net: Callable[[], Net], tmp_path: Path) -> None:
    teacher = net().save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx")
    recovered = taught(student, teacher, tmp_path / "out", samples_for(student, 112), steps=24, rows=16)
    unseen = samples_for(teacher, 64, seed=9)
    assert sqnr_db(teacher, recovered.path, unseen) > sqnr_db(teacher, student, unseen) + 3


def test_inner_tensors_are_learned_too_where_both_have_them(tmp_path: Path) -> None:
    teacher = residual_cnn().save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx")
    feeds, folder = next(samples_for(teacher, 64, seed=9).batches(16)), tmp_path / "features"
    folder.mkdir()
    found = features(student, teacher, feeds, folder, threads=1)
    assert found and sum(target.weight for target in found) == pytest.approx(1)
    names = [target.name for target in found]
    wanted = inner(teacher, names, feeds, folder)
    away = {
        asked: noise(
            wanted,
            inner(taught(student, teacher, tmp_path / f"{asked}", steps=24, features=asked).path, names, feeds, folder),
        )
        for asked in (True, False)
    }
    assert away[True] < 0.9 * away[False]


def inner(path: Path, names: list[str], feeds: Feeds, folder: Path) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(showing(path, names, folder)).run(names, feeds)


def noise(wanted: list[np.ndarray], found: list[np.ndarray]) -> float:
    return sum(float(np.mean((a - b) ** 2) / np.var(a)) for a, b in zip(wanted, found, strict=True))


def test_networks_without_a_tensor_in_common_are_taught_by_what_they_say(tmp_path: Path) -> None:
    teacher = mlp().save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx")
    recovered = taught(student, teacher, tmp_path / "out", steps=24, features=True)
    assert "none in common" in recovered.course.notes[0]


def test_a_graph_that_takes_one_row_whatever_it_declares_is_taught_row_by_row(tmp_path: Path) -> None:
    net = Net()
    x = net.op("Relu", net.gemm(net.input("x", ["batch", 8]), (8, 16)))
    shape = net.constant(np.array([1, 16], np.int64))
    net.gemm(net.op("Reshape", x, shape), (16, 3), name="y")
    teacher = net.output("y", ["batch", 3]).save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx")
    assert taught(student, teacher, tmp_path / "out", samples_for(teacher, 48), steps=4, rows=8).course.best_step > 0


def test_only_values_of_weights_change(tmp_path: Path) -> None:
    teacher = small_cnn().save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx")
    recovered = load(taught(student, teacher, tmp_path / "out", steps=5).path)
    assert without_weights(recovered) == without_weights(load(student))
    assert recovered != load(student)


def test_the_same_seed_gives_the_same_file_and_another_one_does_not(tmp_path: Path) -> None:
    teacher = small_cnn().save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx")
    first, again, other = (
        taught(student, teacher, tmp_path / f"out-{number}", steps=6, seed=seed).path.read_bytes()
        for number, seed in enumerate((0, 0, 1))
    )
    assert first == again != other


def test_a_graph_that_says_the_same_already_has_nothing_to_learn(tmp_path: Path) -> None:
    teacher = mlp().save(tmp_path / "teacher.onnx")
    assert attempt(teacher, teacher, tmp_path / "out") == "it says what the original says already"


def test_steps_that_do_harm_are_not_kept(tmp_path: Path) -> None:
    teacher = mlp().save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx", noise=0.02)
    outcome = attempt(student, teacher, tmp_path / "out", rate=0.9, steps=10)
    assert isinstance(outcome, str)
    assert "training steps brought it nearer" in outcome


def test_a_loss_that_is_no_number_sends_it_back_at_half_the_rate(tmp_path: Path) -> None:
    teacher = mlp().save(tmp_path / "teacher.onnx")
    samples = samples_for(teacher)
    samples.columns["features"].array[40] = np.float32(3e38)  # one sample overflows whatever reads it
    student = shaken(teacher, tmp_path / "student.onnx")
    recovered = taught(student, teacher, tmp_path / "out", samples, steps=30)
    assert recovered.course.restarts > 0
    assert "no number" in recovered.course.notes[0]


class Killed(Exception):
    """What a killed process would not notice."""


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.recover.training.SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr("engine.recover.training.SNAPSHOT_SHARE", math.inf)
    teacher = small_cnn().save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx")
    whole = taught(student, teacher, tmp_path / "whole", steps=12)
    pauses = iter(range(20))

    def die_at_last() -> None:
        if next(pauses, None) is None:
            raise Killed

    samples, options = samples_for(student), Options(steps=12, rows=32, rate=3e-3)
    kept = tmp_path / "kept"
    with pytest.raises(Killed):
        recover(student, teacher, samples, options, Classroom(tmp_path / "first", kept, die_at_last))
    again = recover(student, teacher, samples, options, Classroom(tmp_path / "second", kept))
    assert isinstance(again, Recovered)
    assert again.path.read_bytes() == whole.path.read_bytes()
    assert "went on from step" in again.course.notes[0]


def test_what_was_kept_of_another_training_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.recover.training.SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr("engine.recover.training.SNAPSHOT_SHARE", math.inf)
    teacher = mlp().save(tmp_path / "teacher.onnx")
    kept = tmp_path / "kept"
    for number in (1, 2):
        student = shaken(teacher, tmp_path / f"student-{number}.onnx", seed=number)
        here = Classroom(tmp_path / f"out-{number}", kept)
        outcome = recover(student, teacher, samples_for(student), Options(steps=5, rows=32, rate=3e-3), here)
        assert isinstance(outcome, Recovered)
        assert outcome.course.notes == []


def test_each_training_of_a_job_goes_on_by_itself_and_old_ones_are_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.recover.training.SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr("engine.recover.training.SNAPSHOT_SHARE", math.inf)
    teacher = mlp().save(tmp_path / "teacher.onnx")
    student, kept = shaken(teacher, tmp_path / "student.onnx"), tmp_path / "kept"

    def notes_of(seed: int) -> list[str]:
        options = Options(steps=3, rows=32, rate=3e-3, seed=seed)
        outcome = recover(student, teacher, samples_for(student), options, Classroom(tmp_path / f"out-{seed}", kept))
        assert isinstance(outcome, Recovered)
        return outcome.course.notes

    assert notes_of(0) == notes_of(1) == []
    assert "went on from step" in notes_of(0)[0]
    for seed in range(2, 6):
        assert notes_of(seed) == []
    assert len(list(kept.glob("training-*"))) == MOST_KEPT
    assert len(list(kept.glob("answers-*"))) == 1, "the teacher is asked once for all of them"
    assert notes_of(0) == []


def labelled(samples: Samples) -> Samples:
    """The label is the largest of the first five features."""
    return replace(samples, label_array=samples.columns["features"].array[:, :5].argmax(1))


def test_labels_alone_teach_as_well(tmp_path: Path) -> None:
    student = mlp().save(tmp_path / "student.onnx")
    recovered = taught(student, None, tmp_path / "out", labelled(samples_for(student, 1024)), labels=True)
    unseen = labelled(samples_for(student, 256, seed=9))

    def hits(path: Path) -> float:
        return float(np.mean(outputs(path, unseen)[0].reshape(len(unseen), -1).argmax(1) == unseen.labels))

    assert hits(student) < 0.4
    assert hits(recovered.path) > 0.6


def test_labels_that_answer_nothing_are_told(tmp_path: Path) -> None:
    teacher = mlp().save(tmp_path / "teacher.onnx")
    samples = replace(samples_for(teacher), label_array=np.zeros((256, 7, 3)))
    assert "no labels that answer" in str(attempt(teacher, None, tmp_path / "alone", samples, labels=True))
    student = shaken(teacher, tmp_path / "student.onnx")
    recovered = taught(student, teacher, tmp_path / "out", samples, labels=True, steps=24)
    assert recovered.taught_by == ("the original",) and "No labels answer" in recovered.course.notes[0]


def test_labels_answer_the_first_output_that_they_fit(tmp_path: Path) -> None:
    """As scikit-learn exports a classifier: the decision in front of the scores."""
    net = mlp()
    net.op("ArgMax", "scores", name="decision", axis=1, keepdims=0)
    net.output("decision", ["batch"], onnx.TensorProto.INT64).outputs.reverse()
    student = net.save(tmp_path / "student.onnx")
    samples = labelled(samples_for(student, 1024))
    recovered = taught(student, None, tmp_path / "out", samples, labels=True)
    assert recovered.taught_by == ("labels",)

    def right(path: Path) -> float:
        return float(np.mean(outputs(path, samples)[0] == samples.labels))

    assert right(recovered.path) > right(student) + 0.1


def test_a_model_of_a_fixed_batch_learns_in_runs_of_that_size(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", [4, 8])
    net.op(
        "Reshape", net.linear(net.op("Relu", net.linear(x, (8, 16))), (16, 6)), net.constant(np.array([4, 6])), name="y"
    )
    teacher = net.output("y", [4, 6]).save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx")
    recovered = taught(student, teacher, tmp_path / "out", samples_for(student, 64), steps=40, rows=16)
    assert sqnr_db(teacher, recovered.path) > sqnr_db(teacher, student) + 3


def test_every_float_output_is_learned_and_others_are_left_out(tmp_path: Path) -> None:
    net = Net()
    x = net.op("Relu", net.linear(net.input("x", ["batch", 8]), (8, 32)))
    net.op("Softmax", net.linear(x, (32, 5)), name="shares", axis=-1)
    net.op("Reshape", net.linear(x, (32, 12)), net.constant(np.array([-1, 3, 4])), name="boxes")
    net.op("ArgMax", "shares", name="decision", axis=1, keepdims=0)
    net.output("shares", ["batch", 5]).output("boxes", ["batch", 3, 4])
    teacher = net.output("decision", ["batch"], onnx.TensorProto.INT64).save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx", noise=0.6)
    recovered = taught(student, teacher, tmp_path / "out")
    samples = samples_for(teacher, 64, seed=9)
    for want, before, after in zip(
        *(outputs(path, samples) for path in (teacher, student, recovered.path)), strict=True
    ):
        if want.dtype == np.float32:
            assert np.square(after - want).sum() < np.square(before - want).sum() / 2


def test_a_graph_without_weights_is_told(tmp_path: Path) -> None:
    net = Net()
    net.op("Relu", net.input("x", ["batch", 4]), name="y")
    path = save(net.output("y", ["batch", 4]).model(), tmp_path / "model.onnx")
    assert attempt(path, path, tmp_path / "out") == "it has no weights that could learn"


def test_a_model_that_memory_has_no_room_for_is_told_before_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = mlp().save(tmp_path / "teacher.onnx")
    monkeypatch.setattr("engine.recover.recovery.COPIES_OF_WEIGHTS", 1 << 40)
    assert "of memory at least, and" in str(attempt(teacher, teacher, tmp_path / "out"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_is_taught_on_the_cpu(tmp_path: Path) -> None:
    teacher = mlp().save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx")
    files = [taught(student, teacher, tmp_path / device, steps=6, device=device).path for device in ("cpu", "cuda")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_learns_as_much(tmp_path: Path) -> None:
    teacher = small_cnn().save(tmp_path / "teacher.onnx")
    student = shaken(teacher, tmp_path / "student.onnx")
    recovered = taught(student, teacher, tmp_path / "out", steps=24, device="cuda")
    assert sqnr_db(teacher, recovered.path) > sqnr_db(teacher, student) + 3

"""The parts of a recovery: which weights learn, which rows are read, what an output is, how the course goes."""

from typing import cast

import numpy as np
import pytest
import torch

from engine.data import synthetic_samples
from engine.recover.course import POINTS, Course, Point
from engine.recover.examiner import Examiner
from engine.recover.labels import label_loss, label_target
from engine.recover.lessons import Lessons
from engine.recover.plan import rows_in
from engine.recover.student import Student
from engine.recover.targets import Kind, distance, target_of
from engine.recover.training import Training
from engine.signature import Signature
from tests.models import Net, branching, small_cnn


def lessons(count: int = 100, seed: int = 0) -> Lessons:
    return Lessons(synthetic_samples(Signature.of(small_cnn().model()), count, 0), seed)


def test_a_pass_reads_every_row_once_and_none_that_is_held_out() -> None:
    given = lessons()
    first = np.concatenate([given.positions(step, 10) for step in range(9)])
    assert sorted(first) == sorted(set(range(100)) - set(given.held_out.tolist()))
    second = np.concatenate([given.positions(step, 10) for step in range(9, 18)])
    assert sorted(second) == sorted(first) and second.tolist() != first.tolist()


def test_a_step_that_crosses_the_end_of_a_pass_goes_on_with_the_next() -> None:
    given = lessons()
    read = [position for step in range(13) for position in given.positions(step, 7)]
    assert len(read) == 91 and set(read[:90]) == set(read)


def test_rows_of_one_run_stay_together() -> None:
    net = Net()
    net.gemm(net.input("x", [4, 8]), (8, 3), name="y")
    model = net.output("y", [4, 3]).model()
    given = Lessons(synthetic_samples(Signature.of(model), 40, 0), 0)
    assert len(given.some_held_out(3)) == 4 and len(given.some_held_out(6)) == 4
    for run in given.in_runs(given.positions(0, 16), 100):
        assert run.tolist() == list(range(run[0], run[0] + 4)) and run[0] % 4 == 0


def test_settings_do_not_learn() -> None:
    net = Net()
    x = net.linear(net.input("x", ["batch", 8]), (8, 8))
    x = net.op("Pow", x, net.constant(np.array([2.0, 2, 2, 2, 2, 2, 2, 2], np.float32), "exponents"))
    x = net.op("Mul", x, net.constant(np.array([0.5], np.float32), "factor"))
    net.op("Clip", x, net.constant(np.float32(0)), net.constant(np.float32(6)), name="y")
    assert set(Student(net.output("y", ["batch", 8]).model()).weights) == {"w0", "w1"}


def test_a_normalization_keeps_its_mean_and_variance() -> None:
    model = small_cnn().model()
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    learning = set(Student(model).weights)
    assert all(set(node.input[1:3]) <= learning and learning.isdisjoint(node.input[3:5]) for node in norms)


def test_weights_inside_of_branches_learn() -> None:
    assert set(Student(branching().model()).weights) == {"then_weight", "else_weight"}


def learning(net: Net) -> set[str]:
    model = net.output("y", None).model()
    model.opset_import.add(domain="com.microsoft", version=1)
    return set(Student(model).weights)


def test_the_weights_of_runtime_operators_learn() -> None:
    net = Net()
    x = net.input("x", ["batch", 6, 32])
    bias = [net.constant(np.ones(size, np.float32), f"bias{size}") for size in (96, 32)]
    packed = net.constant(net.random.standard_normal((32, 96)).astype(np.float32), "packed")
    attended = net.op("Attention", x, packed, bias[0], domain="com.microsoft", num_heads=4)
    scale = net.constant(np.ones(32, np.float32), "scale")
    summed = net.op("SkipSimplifiedLayerNormalization", x, attended, scale, domain="com.microsoft")
    net.op("FastGelu", summed, bias[1], name="y", domain="com.microsoft")
    assert learning(net) == {"packed", "bias96", "scale", "bias32"}


def test_a_weight_that_is_normalized_as_the_graph_runs_learns() -> None:
    net = Net()
    direction = net.constant(net.random.standard_normal((8, 8)).astype(np.float32), "direction")
    length = net.constant(np.ones((1, 8), np.float32), "length")
    unit = net.op("Div", direction, net.op("ReduceL2", direction, axes=[0]))
    net.op("MatMul", net.input("x", ["batch", 8]), net.op("Mul", unit, length), name="y")
    assert learning(net) == {"direction", "length"}


def table_of_positions(operator: str) -> Net:
    """Added it says where a row stands; multiplied it turns it."""
    net = Net()
    x = net.linear(net.input("x", ["batch", 6, 8]), (8, 8))
    table = net.constant(net.random.standard_normal((1, 64, 8)).astype(np.float32), "table")
    places = [net.constant(np.array([number])) for number in (0, 6, 1)]
    net.op(operator, x, net.op("Slice", table, *places), name="y")
    return net


def test_a_part_of_a_table_of_positions_learns_where_it_is_added() -> None:
    assert "table" in learning(table_of_positions("Add")) and "table" not in learning(table_of_positions("Mul"))


def test_a_mask_does_not_learn() -> None:
    net = Net()
    x = net.linear(net.input("x", ["batch", 8, 8]), (8, 8))
    net.op("Add", x, net.constant(np.triu(np.full((8, 8), -np.inf, np.float32), 1), "mask"), name="y")
    assert "mask" not in learning(net)


def test_what_does_not_learn_is_told_where_it_is_much() -> None:
    told = Student(table_of_positions("Mul").output("y", None).model()).left_out
    assert told == "512 of 576 floats in its matrices and tables (88.9 %) did not learn. They are read by Slice."
    assert Student(table_of_positions("Add").output("y", None).model()).left_out is None


def test_pruned_weights_stay_pruned_and_layers_that_begin_with_zeros_learn() -> None:
    net = Net()
    pruned, begun = np.tile(np.float32([[1], [0]]), (4, 8)), np.zeros((8, 3), np.float32)
    x = net.op("MatMul", net.input("x", ["batch", 8]), net.constant(pruned, "pruned"))
    x = net.op("Add", x, net.constant(np.zeros((1, 8), np.float32), "bias"))
    net.op("MatMul", x, net.constant(begun, "begun"), name="y")
    student = Student(net.output("y", ["batch", 3]).model())
    for _ in range(3):
        student.forget_gradients()
        (student.outputs({"x": torch.ones(2, 8)})["y"] - 1).square().sum().backward()
        assert student.move(0.1)
    values = student.values()
    assert np.array_equal(values["pruned"] != 0, pruned != 0) and (values["pruned"][0] != 1).all()
    assert values["bias"].all() and values["begun"].all()


SCORES = np.random.default_rng(0).standard_normal((32, 5)).astype(np.float32)
SHARES = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("values", "kind", "axis"),
    [
        (SCORES, Kind.SCORES, 1),
        (SHARES, Kind.PROBABILITIES, 1),
        (SHARES.reshape(8, 4, 5), Kind.PROBABILITIES, 2),
        (SHARES.reshape(8, 4, 5).transpose(0, 2, 1), Kind.PROBABILITIES, 1),
        (SCORES.reshape(8, 4, 5), Kind.VALUES, None),
        (SCORES.reshape(32, 5, 1, 1), Kind.SCORES, 1),
        (SCORES[:, :1], Kind.VALUES, None),
    ],
)
def test_an_output_is_seen_for_what_it_is(values: np.ndarray, kind: Kind, axis: int | None) -> None:
    target = target_of("y", values)
    assert target is not None and target.kind is kind
    assert axis is None or target.axis == axis


def test_decisions_and_nothing_but_infinity_teach_nothing() -> None:
    assert target_of("y", np.array([1, 2])) is None
    assert target_of("y", np.full((4, 3), np.inf, np.float32)) is None


@pytest.mark.parametrize("values", [SCORES, SHARES, SCORES.reshape(8, 4, 5)])
def test_equal_outputs_are_no_distance_apart_and_knowing_nothing_is_about_one(values: np.ndarray) -> None:
    target, teacher = target_of("y", values), torch.from_numpy(values)
    assert target is not None
    assert distance(target, teacher, teacher, 2.0).item() == pytest.approx(0, abs=1e-6)
    nothing = torch.from_numpy(values).mean(0, keepdim=True).expand_as(teacher)
    assert 0.2 < distance(target, nothing, teacher, 2.0).item() < 4


def test_what_the_teacher_makes_infinite_is_left_out() -> None:
    values = SCORES.reshape(8, 4, 5).copy()
    values[0, 0] = -np.inf
    target, teacher = target_of("y", values), torch.from_numpy(values)
    assert target is not None
    student = torch.zeros(8, 4, 5, requires_grad=True)
    distance(target, student, teacher, 2.0).backward()
    assert student.grad is not None and torch.isfinite(student.grad).all() and not student.grad[0, 0].any()


@pytest.mark.parametrize("shares", [False, True])
def test_the_right_class_lowers_the_loss_of_labels(shares: bool) -> None:
    values, labels = SHARES if shares else SCORES, SCORES.argmax(1)
    target = label_target("y", values, labels)
    assert target is not None
    right = label_loss(target, torch.from_numpy(values), torch.from_numpy(labels))
    wrong = label_loss(target, torch.from_numpy(values), torch.from_numpy((labels + 1) % 5))
    assert right < wrong


def test_labels_of_two_classes_and_values_answer_one_number() -> None:
    values = SCORES[:, :1]
    for labels, good in (((values[:, 0] > 0).astype(int), 4.0), (values[:, 0] * 2, 2.0)):
        target = label_target("y", values, labels)
        assert target is not None
        better = label_loss(target, torch.from_numpy(values * good), torch.from_numpy(labels))
        assert better < label_loss(target, torch.from_numpy(-values), torch.from_numpy(labels))


def test_looks_at_what_is_held_out_are_part_of_the_plan() -> None:
    for seconds in (100.0, 10.0, 2.0):
        learned = rows_in(seconds, 0.001, held_out=512)
        looked_at = min(Course(round(learned / 16), 16, 1e-3).looked_at, 512)
        spent = 0.001 * (learned + POINTS * looked_at / 3)  # a look has no backward pass
        assert 0.9 * seconds < spent < seconds


def test_the_rate_warms_up_and_comes_down_to_nothing() -> None:
    course = Course(100, 32, 0.01)
    rates = []
    for course.step in range(100):
        rates.append(course.rate_now())
    assert rates[0] < 0.005 and max(rates) == pytest.approx(0.01, rel=0.01) and rates[-1] < 1e-4
    assert rates.index(max(rates)) in range(4, 7)


def test_a_loss_that_rises_while_the_rate_is_high_does_not_end_it() -> None:
    course = Course(100, 32, 0.01, points=[Point(step, 1.0, 2.0 if step else 1.0) for step in range(0, 71, 5)])
    assert not course.stands_still


def test_a_course_that_is_cut_down_comes_down_to_nothing_all_the_same() -> None:
    course = Course(1000, 32, 0.01, step=60)
    before = course.rate_now()
    course.end_at(100)
    course.end_at(90)
    course.step = 89
    assert before > 0.009 and course.rate_now() < 1e-4
    assert (course.planned, course.steps) == (1000, 90)


@pytest.mark.parametrize(
    ("planned", "seconds_of_a_step", "left", "steps"),
    [(None, 0.1, 100.0, 1000), (None, 0.1, 10.0, 220), (1000, 0.05, 20.0, 520), (1000, 0.01, 100.0, 1000)],
    ids=["there is time", "there is not", "there is more than it looked like", "there is enough after all"],
)
def test_a_course_keeps_to_its_time(
    monkeypatch: pytest.MonkeyPatch, planned: int | None, seconds_of_a_step: float, left: float, steps: int
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    course = Course(200 if planned else 1000, 32, 0.01, planned=planned)
    training = Training(cast("Student", None), cast("Examiner", None), course, deadline=left)
    for course.step in range(1, 121):
        course.seconds = 5 + course.step * seconds_of_a_step  # it began with a long look at what is held out
        if course.step in (2, 120):
            training._keep_time()
    assert course.steps == steps


def test_a_training_that_found_nothing_better_for_long_stands_still() -> None:
    course = Course(100, 32, 0.01, points=[Point(step, 1.0, 2.0 if step else 1.0) for step in range(0, 81, 5)])
    assert course.stands_still
    course.points.append(Point(85, 1.0, 0.5))
    assert not course.stands_still


def test_classes_that_the_teacher_rules_out_teach_nothing() -> None:
    teacher = torch.tensor([[1.0, float("-inf"), 3.0]])
    target = target_of("y", np.array([[1.0, 2.0, 3.0], [2.0, 0.0, 1.0]], np.float32))
    assert target is not None
    student = torch.tensor([[1.0, 7.0, 3.0]], requires_grad=True)
    loss = distance(target, student, teacher, 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5) and torch.isfinite(student.grad).all()

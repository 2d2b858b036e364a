"""Profiles of real models: what is executed adds up to what was counted."""

from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from engine.measure.complexity import count
from engine.measure.latency import compare
from engine.measure.operators import bound_of, profile
from engine.measure.trace import faster_runs
from engine.recipe import Target
from engine.report import Bound, Machine, Profile
from tests.models import Net, branching, depthwise_cnn, recurrent, residual_cnn, small_cnn, transformer

MACHINE = Machine(
    cpu="any",
    flags=[],
    cores=2,
    memory_bytes=1,
    os="any",
    peak_gflops=50,
    peak_gops_int8=100,
    bandwidth_gb_s=10,
    versions={},
)
IMAGE = {"image": np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)}


def profiled(net: Net, folder: Path, feeds: dict[str, np.ndarray]) -> Profile:
    return profile(net.save(folder / "model.onnx"), feeds, Target(), MACHINE)


def macs(taken: Profile) -> int:
    return sum(operator.macs or 0 for operator in taken.operators)


@pytest.mark.parametrize("net", [residual_cnn(20), residual_cnn(30), depthwise_cnn(20), depthwise_cnn(32)])
def test_executed_and_counted_work_agree_though_nodes_were_fused_and_padded(tmp_path: Path, net: Net) -> None:
    assert macs(profiled(net, tmp_path, IMAGE)) == count(net.model()).macs


@pytest.mark.parametrize(
    ("net", "feeds"),
    [
        (transformer(), {"ids": np.ones((2, 8), np.int64)}),
        (recurrent(), {"sequence": np.zeros((7, 2, 4), np.float32)}),
    ],
)
def test_other_architectures_add_up_too(tmp_path: Path, net: Net, feeds: dict[str, np.ndarray]) -> None:
    assert macs(profiled(net, tmp_path, feeds)) == count(net.model(), batch=2).macs


def test_times_add_up_to_a_run(tmp_path: Path) -> None:
    net = residual_cnn(64)
    taken = profiled(net, tmp_path, IMAGE)
    (timed,) = compare(tmp_path / "model.onnx", [tmp_path / "model.onnx"], IMAGE, Target(), processes=1, seconds=1)
    assert sum(operator.time_ms for operator in taken.operators) == pytest.approx(taken.total_ms)
    assert sum(operator.time_share for operator in taken.operators) == pytest.approx(1)
    assert 0.3 < taken.total_ms / timed.baseline.median_ms < 3


def test_real_widths_are_shown_where_kernels_pad_channels(tmp_path: Path) -> None:
    taken = profiled(small_cnn(12), tmp_path, IMAGE)
    widths = [operator.shape[1] for operator in taken.operators if operator.operator == "Conv" and operator.shape]
    assert widths == [12] * len(widths) != []


class Samples(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = [IMAGE] * 2

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def test_a_quantized_model_shows_its_precision_and_its_conversions(tmp_path: Path) -> None:
    net = small_cnn(32)
    quantize_static(
        net.save(tmp_path / "float.onnx"),
        tmp_path / "int8.onnx",
        Samples(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    taken = profile(tmp_path / "int8.onnx", IMAGE, Target(), MACHINE)
    layers = [operator for operator in taken.operators if operator.macs]
    assert {operator.precision for operator in layers} == {"uint8"}
    assert macs(taken) == count(net.model()).macs
    assert taken.quantize_dequantize_ms > 0
    assert layers[0].shape == [1, 32, 16, 16]


def test_the_time_of_a_branch_counts_once(tmp_path: Path) -> None:
    feeds = {"condition": np.array(True), "x": np.ones((1, 4), np.float32)}
    assert [operator.operator for operator in profiled(branching(), tmp_path, feeds).operators] == ["If"]


def test_nodes_without_names_are_told_apart(tmp_path: Path) -> None:
    net = residual_cnn()
    for node in net.nodes:
        node.name = ""
    assert macs(profiled(net, tmp_path, IMAGE)) == count(net.model()).macs


def event(name: str, start: int, length: int, *, operator: str = "") -> dict[str, object]:
    if not operator:
        return {"cat": "Session", "name": name, "ts": start, "dur": length, "args": {}}
    details = {"op_name": operator, "node_index": "0"}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": length, "args": details}


def test_interrupted_runs_and_warm_up_are_left_out() -> None:
    times = [500, 10, 900, 11, 12]
    trace = [
        entry
        for index, time in enumerate(times)
        for entry in (event("a", 1000 * index + 1, time - 2, operator="Conv"), event("model_run", 1000 * index, time))
    ]
    assert [run[0].time_us for run in faster_runs(trace, warm_up=1)] == [8, 9]


@pytest.mark.parametrize(
    ("macs", "moved", "bound"),
    [
        (25_000_000, 1000, Bound.COMPUTE),
        (1000, 10_000_000, Bound.MEMORY),
        (1000, 1000, Bound.OVERHEAD),
        (None, 1000, Bound.UNKNOWN),
    ],
)
def test_an_operator_is_bound_by_what_takes_most_of_its_time(macs: int | None, moved: int, bound: Bound) -> None:
    assert bound_of(1.0, macs, moved, precision="float32", machine=MACHINE) is bound

"""Real models in real probes; what is asserted leaves room for a machine that others use too."""

from pathlib import Path

import numpy as np
import pytest

from engine.measure.latency import MOST_SAMPLES, compare, opening_order
from engine.recipe import Target
from tests.models import Net, small_cnn

FEEDS = {"image": np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)}


def layers(number: int) -> Net:
    net = Net()
    x = net.input("image", ["batch", 3, 32, 32])
    x = net.conv(x, (3, 32))
    for _ in range(number):
        x = net.op("Relu", net.conv(x, (32, 32)))
    net.op("Identity", x, name="y")
    return net.output("y", ["batch", 32, 32, 32])


def test_a_file_against_itself_is_1_times_as_fast(tmp_path: Path) -> None:
    """A 95 % interval misses 1 time in 20; three times as far is as good as never."""
    model = layers(3).save(tmp_path / "model.onnx")
    (itself,) = compare(model, [model], FEEDS, Target(), processes=3, seconds=2.4)
    half = (itself.speedup.high - itself.speedup.low) / 2
    assert abs(itself.speedup.value - 1) < 3 * half


def test_twice_the_layers_take_twice_the_time(tmp_path: Path) -> None:
    """The fastest rounds tell it on any machine; medians and intervals only on one that is left alone."""
    short, long = layers(4).save(tmp_path / "short.onnx"), layers(8).save(tmp_path / "long.onnx")
    (shorter,) = compare(long, [short], FEEDS, Target(), processes=2, seconds=2)
    slow = min(time for series in shorter.series for time in series.baseline_ms)
    fast = min(time for series in shorter.series for time in series.candidate_ms)
    assert 1.5 < slow / fast < 2.6
    assert shorter.speedup.low < shorter.speedup.value < shorter.speedup.high


def test_figures_say_how_they_came_about(tmp_path: Path) -> None:
    model = small_cnn().save(tmp_path / "model.onnx")
    feeds = {"image": np.zeros((4, 3, 16, 16), np.float32)}
    (result,) = compare(model, [model], feeds, Target(batch_size=4), processes=2, seconds=1.2, precision=0.0)
    latency = result.candidate
    assert latency.median_ms <= latency.p90_ms <= latency.p95_ms <= latency.p99_ms
    assert latency.throughput_per_s == pytest.approx(4000 / latency.median_ms)
    assert latency.processes == len(result.series) == 2
    assert latency.load_ms > 0 < latency.first_run_ms
    assert all(len(series.baseline_ms) == len(series.candidate_ms) <= MOST_SAMPLES for series in result.series)
    assert latency.runs >= sum(len(series.candidate_ms) for series in result.series)


def test_each_file_is_opened_first_in_some_process() -> None:
    orders = [opening_order(3, process) for process in range(6)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert {order[0] for order in orders} == {0, 1, 2}

from pathlib import Path

import numpy as np

from engine.measure.memory import peak_bytes
from engine.recipe import Target
from tests.models import Net

MIB = 1 << 20


def product(side: int) -> Net:
    net = Net()
    net.op("MatMul", net.input("x", [1, side]), net.weight(side, side), name="y")
    return net.output("y", [1, side])


def test_peak_memory_grows_with_the_weights(tmp_path: Path) -> None:
    peaks = []
    for side in (64, 4096):
        model = product(side).save(tmp_path / f"{side}.onnx")
        peaks.append(peak_bytes(model, {"x": np.zeros((1, side), np.float32)}, Target()))
    assert 60 * MIB < peaks[1] - peaks[0] < 400 * MIB


def test_the_memory_of_the_engine_itself_does_not_count(tmp_path: Path) -> None:
    """A process inherits the peak of the one that started it, which the kernel does not forget at exec."""
    model = product(64).save(tmp_path / "model.onnx")
    ballast = np.ones(400 * MIB // 8)
    assert peak_bytes(model, {"x": np.zeros((1, 64), np.float32)}, Target()) < ballast.nbytes / 2

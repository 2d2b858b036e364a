"""Calibration: the peak memory, the time and the fidelity of each method, with few samples and with many.

Each figure is from a process of its own, `python -m benchmarks.calibration MODEL DATA METHOD…`, which prints JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.table import Row
from engine.data import Samples, open_samples
from engine.graph import load, save
from engine.measure.session import open_session, session_options
from engine.quantize.calibrate import Calibrator
from engine.quantize.plan import plan
from engine.quantize.prepare import prepared
from engine.quantize.qdq import Format, quantized
from engine.recipe import Calibration
from engine.signature import Signature
from engine.steps.base import cpu_saturates

ROOT = Path(__file__).parent.parent
COUNTS = (64, 4096)
METHODS = [method for method in Calibration if method is not Calibration.AUTO]
PERCENT = 99.99
JUDGED = 64  #: samples whose outputs are compared


def run() -> list[Row]:
    rows = []
    for kind in ("residual", "transformer"):
        with tempfile.TemporaryDirectory() as folder:
            data = {count: _write_data(Path(folder) / f"{count}.npz", count) for count in COUNTS}
            for method in METHODS:
                model = ROOT / "examples" / "fashion" / f"{kind}.onnx"
                rows.append(_row(kind, method, [measured(model, data[count], [method]) for count in COUNTS]))
    return rows


def measured(model: Path, data: Path, methods: list[Calibration]) -> dict[str, float]:
    """What the child says of these methods, one after another."""
    command = [sys.executable, "-m", "benchmarks.calibration", str(model), str(data), *methods]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _write_data(path: Path, count: int) -> Path:
    from examples.fashion import data as fashion

    np.savez(path, image=fashion.load("train")[0][:count])
    return path


def _row(kind: str, method: Calibration, few_and_many: list[dict[str, float]]) -> Row:
    peaks = [one["peak_bytes"] for one in few_and_many]
    return {
        "model": f"fashion: {kind}",
        "method": method,
        "samples": " / ".join(map(str, COUNTS)),
        "peak MiB": " / ".join(f"{peak / 2**20:.1f}" for peak in peaks),
        "growth": f"{100 * (peaks[-1] / peaks[0] - 1):+.1f} %",
        "seconds": " / ".join(f"{one['seconds']:.2f}" for one in few_and_many),
        "SQNR dB": " / ".join(f"{one['sqnr_db']:.1f}" for one in few_and_many),
    }


# ── in the child ─────────────────────────────────────────────────────────────────────────────────────────────────────


def main(model: Path, data: Path, methods: list[Calibration]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = open_samples(data, Signature.of(load(model)), None, folder / "arrays")
        graph = prepared(model, samples, folder)
        assert not isinstance(graph, str), graph
        planned = plan(graph)
        form = Format(signed=False, reduced=cpu_saturates(), per_channel=True)
        begun = time.monotonic()
        calibrator = Calibrator(graph, samples, folder, threads=1, pause=lambda: None)
        ranges = extremes = calibrator.minmax(sorted(set(planned.owners.values())))
        for method in methods:
            ranges = calibrator.ranges(method, extremes, percent=PERCENT, form=form)
        result = {"seconds": time.monotonic() - begun, "peak_bytes": _peak_bytes()}
        path = save(quantized(graph, planned, ranges, form), folder / "quantized.onnx")
        print(json.dumps(result | {"sqnr_db": _sqnr_db(model, path, samples.first(JUDGED))}))


def _peak_bytes() -> int:
    """Peak resident set of this process; `ru_maxrss` would also tell of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _sqnr_db(original: Path, other: Path, samples: Samples) -> float:
    """Signal to noise of all outputs together, through the kernels of this machine."""
    sessions = [open_session(path, "cpu", session_options(1)) for path in (original, other)]
    signal, noise = 0.0, 0.0
    for feeds in samples.batches(1):
        for true, seen in zip(*(session.run(None, feeds) for session in sessions), strict=True):
            signal += float(np.square(true, dtype=np.float64).sum())
            noise += float(np.square(np.subtract(true, seen, dtype=np.float64)).sum())
    return 10 * float(np.log10(signal / noise))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Calibration(name) for name in sys.argv[3:]])

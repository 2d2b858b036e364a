"""Others that quantize, with their defaults. Each writes a file or raises; whatever it raises is its result."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

from benchmarks.models.cases import Case
from engine.data import Samples, open_samples
from engine.graph import load
from engine.signature import Signature

CALIBRATED_ON = 300  #: samples, what NNCF takes by default
NNCF_SCRIPT = Path(__file__).parent / "nncf_defaults.py"
MOST_SECONDS = 1800


class PeerFailed(Exception):
    """The last words of a peer in a process of its own."""


class _Reader(CalibrationDataReader):
    """Samples one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, samples: Samples) -> None:
        self._batches = samples.batches(1)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _ort_static(case: Case, path: Path) -> None:
    quantize_static(case.model, path, _Reader(_samples(case, path)))


def _ort_dynamic(case: Case, path: Path) -> None:
    quantize_dynamic(case.model, path)


def _nncf(case: Case, path: Path) -> None:
    """In the interpreter that STROP_NNCF_PYTHON names, or in this one. NNCF_CI keeps its telemetry silent."""
    feeds = list(_samples(case, path).batches(1))
    runs = path.with_suffix(".npz")
    np.savez(runs, allow_pickle=False, **{name: np.stack([one[name] for one in feeds]) for name in feeds[0]})
    python = os.environ.get("STROP_NNCF_PYTHON", sys.executable)
    command = [python, "-I", str(NNCF_SCRIPT), str(case.model), str(runs), str(path)]
    environment = os.environ | {"NNCF_CI": "1"}
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    if done.returncode:
        raise PeerFailed(_last_words(done.stderr) or f"exit code {done.returncode}")


def _last_words(told: str) -> str:
    lines = told.strip().splitlines()
    if lines and "No module named 'nncf'" in lines[-1]:
        return "not installed: pip install --constraint constraints.txt --group bench"
    return lines[-1] if lines else ""


def _samples(case: Case, path: Path) -> Samples:
    samples = open_samples(case.calibration, Signature.of(load(case.model)), None, path.with_suffix(".samples"))
    return samples.first(CALIBRATED_ON)


PEERS: dict[str, Callable[[Case, Path], None]] = {
    "onnxruntime quantize_static": _ort_static,
    "onnxruntime quantize_dynamic": _ort_dynamic,
    "nncf quantize": _nncf,
}


def peers(case: Case) -> dict[str, Callable[[Path], None]]:
    """All of them, for this model."""
    return {name: partial(make, case) for name, make in PEERS.items()}

"""Models of different kinds: what `goal: latency, accuracy_drop 0.01` finds, beside ONNX Runtime's own quantization.

Strop's job runs as it would for a user. The peers' files are then measured by the same code, in turns with the original
and with Strop's file, in the same processes, so that the ratios compare.
"""

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

from benchmarks.table import Row
from engine.data import Samples, open_samples
from engine.errors import EngineError
from engine.graph import load
from engine.measure import accuracy, latency
from engine.measure.lock import HostLock
from engine.protocol import EngineRequest, Work
from engine.recipe import Goal, Limits, Metric, Recipe, Target
from engine.report import Report
from engine.signature import Signature
from examples.fashion import data as fashion

EXAMPLES = Path(__file__).parent.parent / "examples"
PROCESSES, SECONDS = 5, 15.0
TARGET = Target(threads=1, batch_size=1)


@dataclass(frozen=True)
class Case:
    """A model, samples to learn ranges from, and others, labelled, to judge by."""

    name: str
    model: Path
    calibration: Path
    evaluation: Path


def cases(folder: Path) -> Iterator[Case]:
    digits = EXAMPLES / "digits"
    yield Case("digits: plain CNN", digits / "model.onnx", digits / "calibration.npz", digits / "test.npz")
    calibration, evaluation = folder / "calibration.npz", folder / "evaluation.npz"
    np.savez(calibration, image=fashion.load("train")[0][:512])
    images, labels = fashion.load("test")
    np.savez(evaluation, image=images, labels=labels)
    for kind in ("residual", "transformer", "recurrent"):
        yield Case(f"fashion: {kind}", EXAMPLES / "fashion" / f"{kind}.onnx", calibration, evaluation)


def run() -> list[Row]:
    logging.disable(logging.WARNING)  # the peers' advice
    with tempfile.TemporaryDirectory() as folder:
        return [row for case in cases(Path(folder)) for row in _compare(case)]


def _compare(case: Case) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.monotonic()
        report = optimize(case, folder / "attempt")
        files = {"Strop": (folder / "attempt" / "best.onnx", time.monotonic() - begun)}
        for peer, make in PEERS.items():
            begun = time.monotonic()
            if make(case, folder / f"{peer}.onnx"):
                files[peer] = (folder / f"{peer}.onnx", time.monotonic() - begun)
        return _measure(case, folder, files, report)


def optimize(case: Case, attempt: Path) -> Report:
    """A whole job in a child of its own; its file is left as best.onnx."""
    recipe = Recipe(goal=Goal(), limits=Limits(accuracy_drop=0.01), target=TARGET)
    report = run_engine(recipe, attempt, case.model, case.calibration, case.evaluation)
    (attempt / "out" / "model.onnx").rename(attempt / "best.onnx")
    return report


def run_engine(recipe: Recipe, attempt: Path, model: Path, calibration: Path, evaluation: Path) -> Report:
    """The engine's work without the service; the last checkpoint is left as ATTEMPT/out."""
    (attempt / "work").mkdir(parents=True)
    request = EngineRequest(
        work=Work.OPTIMIZE,
        recipe=recipe,
        model=str(model.resolve()),
        calibration=str(calibration.resolve()),
        evaluation=str(evaluation.resolve()),
    )
    (attempt / "request.json").write_text(request.model_dump_json())
    command = [sys.executable, "-I", "-m", "engine", str(attempt)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        raise SystemExit(f"{model}: {events[-1] if events else done.returncode}")
    checkpoints = [event["directory"] for event in events if event["type"] == "checkpoint"]
    (attempt / checkpoints[-1]).rename(attempt / "out")
    return Report.model_validate_json((attempt / "out" / "report.json").read_bytes())


class _Reader(CalibrationDataReader):
    """Samples one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, samples: Samples) -> None:
        self._batches = samples.batches(1)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _ort_static(case: Case, path: Path) -> bool:
    samples = open_samples(case.calibration, Signature.of(load(case.model)), None, path.with_suffix(".samples"))
    return _attempted(lambda: quantize_static(case.model, path, _Reader(samples.first(256))))


def _ort_dynamic(case: Case, path: Path) -> bool:
    return _attempted(lambda: quantize_dynamic(case.model, path))


def _attempted(make: Callable[[], None]) -> bool:
    try:
        make()
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result
        print(f"  a peer failed: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


PEERS: dict[str, Callable[[Case, Path], bool]] = {
    "onnxruntime quantize_static": _ort_static,
    "onnxruntime quantize_dynamic": _ort_dynamic,
}


def _measure(case: Case, folder: Path, files: dict[str, tuple[Path, float]], report: Report) -> list[Row]:
    samples = open_samples(case.evaluation, Signature.of(load(case.model)), None, folder / "samples")
    feeds = next(samples.batches(1))
    reference = accuracy.run_outputs(case.model, samples, TARGET, folder / "reference", lock=HostLock(None))
    drops = {name: _drop(path, samples, reference, folder / f"{name}-outputs") for name, (path, _) in files.items()}
    sound = [name for name, drop in drops.items() if drop is not None]
    paths = [files[name][0] for name in sound]
    speeds = latency.compare(case.model, paths, feeds, TARGET, processes=PROCESSES, seconds=SECONDS)
    rows = []
    for name, speed in zip(sound, speeds, strict=True):
        rows.append(
            {
                "model": case.name,
                "by": name,
                "speed-up": f"{speed.speedup.value:.2f} ({speed.speedup.low:.2f}–{speed.speedup.high:.2f})",
                "original ms": f"{speed.baseline.median_ms:.3f}",
                "drop, points": str(drops[name]),
                "seconds": f"{files[name][1]:.0f}",
                "what": _what(report) if name == "Strop" else "defaults",
            }
        )
    return rows


def _what(report: Report) -> str:
    chosen = next((trial.label for trial in report.trials if trial.id == report.verdict.chosen), "the original")
    return f"{report.verdict.outcome}: {chosen}"


def _drop(path: Path, samples: Samples, reference: accuracy.Outputs, folder: Path) -> str | None:
    try:
        outputs = accuracy.run_outputs(path, samples, TARGET, folder, lock=HostLock(None))
    except EngineError as error:
        print(f"  {path.name} does not run: {error}", file=sys.stderr)
        return None
    drop = accuracy.compare(reference, outputs, samples.labels, Metric.AUTO, limit=0.01, seed=0).drop
    return f"{100 * drop.value:+.2f} ({100 * drop.low:+.2f}…{100 * drop.high:+.2f})"

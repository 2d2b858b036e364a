"""Half of the channels of the residual network removed by `prune_channels` and by torch-pruning, both recovered alike.

torch-pruning works on the torch module that the file was exported from, which is more than Strop is given.
`STROP_TORCH_PRUNING_PYTHON` names an interpreter that has it (torch, torch-pruning, ONNX). Recovery is `distill` with
the same steps, batches and unlabelled training images; all files are timed in turns.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.table import Row
from engine.data import Samples, open_samples
from engine.graph import load
from engine.measure.complexity import count
from engine.measure.latency import compare
from engine.measure.session import open_session, session_options
from engine.recipe import Distill, Importance, PruneChannels, Step, Target
from engine.signature import Signature
from engine.steps import STEPS, Skipped, StepContext
from examples.fashion import data as fashion

MODEL = Path(__file__).parents[1] / "examples" / "fashion" / "residual.onnx"
RATIO = 0.5
LEARNED = 10_000  #: images
RECOVERY = Distill(steps=400, batch_size=64, learning_rate=3e-3)
SECONDS = 20.0  #: of timing
WAYS = {
    "prune_channels": PruneChannels(ratio=RATIO),
    "prune_channels, not reconstructed": PruneChannels(ratio=RATIO, reconstruct=False),
    "prune_channels by magnitude, not reconstructed": PruneChannels(
        ratio=RATIO, importance=Importance.MAGNITUDE, reconstruct=False
    ),
}


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        images, _ = fashion.load("train")
        np.savez(folder / "learned.npz", allow_pickle=False, image=images[:LEARNED])
        samples = open_samples(folder / "learned.npz", Signature.of(load(MODEL)), None, folder / "samples")
        pruned = {way: _done(step, MODEL, samples, folder / way) for way, step in WAYS.items()}
        peer = _torch_pruning(folder / "torch-pruning.onnx")
        if peer is not None:
            pruned["torch-pruning"] = peer
        recovered = {way: _done(RECOVERY, path, samples, folder / f"{way}, distilled") for way, path in pruned.items()}
        feeds = next(samples.batches(1))
        times = compare(MODEL, list(pruned.values()), feeds, Target(), processes=3, seconds=SECONDS)
        rows = [_row("the original", MODEL, MODEL, "1")]
        for (way, path), timed in zip(pruned.items(), times, strict=True):
            speed = timed.speedup
            rows.append(_row(way, path, recovered[way], f"{speed.value:.2f} ({speed.low:.2f}–{speed.high:.2f})"))
        return rows


def _row(way: str, pruned: Path, recovered: Path, speed: str) -> Row:
    return {
        "way": way,
        "operations left": f"{100 * (count(load(pruned)).macs or 0) / (count(load(MODEL)).macs or 1):.1f} %",
        "times as fast": speed,
        "top-1 when pruned": f"{_top1(pruned):.2f} %",
        "top-1 when recovered": f"{_top1(recovered):.2f} %",
    }


def _done(step: Step, model: Path, samples: Samples, folder: Path) -> Path:
    folder.mkdir()
    outcome = STEPS[type(step)].run(step, model, StepContext(samples, folder, Target(), 0, original=MODEL))
    if isinstance(outcome, Skipped):
        raise SystemExit(outcome.reason)
    assert isinstance(outcome, list), "none of these steps works in rounds"
    return outcome[0].path


def _torch_pruning(path: Path) -> Path | None:
    """In the interpreter that STROP_TORCH_PRUNING_PYTHON names; None where there is none."""
    python = os.environ.get("STROP_TORCH_PRUNING_PYTHON")
    if python is None:
        print("without torch-pruning, for STROP_TORCH_PRUNING_PYTHON names no interpreter", file=sys.stderr)
        return None
    command = [python, "-m", "benchmarks.torch_pruning_defaults", str(MODEL), str(RATIO), str(path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1])
    return path


def _top1(model: Path) -> float:
    """Of the 10,000 test images, in percent."""
    images, labels = fashion.load("test")
    session = open_session(model, "cpu", session_options(1))
    scores = np.concatenate([session.run(None, {"image": some})[0] for some in np.split(images, 20)])
    return 100 * float((scores.argmax(1) == labels).mean())

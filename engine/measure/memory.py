"""Peak resident set of a fresh process that loads one model, runs it a few times, and does nothing else.

It includes the interpreter, NumPy and ONNX Runtime itself, some 50 MB, as any process that serves the model does.
"""

import tempfile
from pathlib import Path

from engine.measure.lock import HostLock
from engine.measure.probe.launch import run_probe
from engine.measure.probe.spec import Feeds, MemorySpec, write_feeds
from engine.recipe import Target

RUNS = 3  #: the arena has then seen every size it will be asked for


def peak_bytes(model: Path, feeds: Feeds, target: Target, *, lock: HostLock | None = None) -> int:
    if lock is not None:
        lock.pause()  # it only takes a few runs, so it is not held in the midst of them
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        path = Path(name) / "feeds.npz"
        write_feeds(feeds, path)
        spec = MemorySpec(model=str(model), device=target.device, threads=target.threads, feeds=str(path), runs=RUNS)
        return int(run_probe(spec)["peak_bytes"])

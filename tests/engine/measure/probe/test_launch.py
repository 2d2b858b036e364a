"""What becomes of a probe that works, refuses, crashes, hangs or has to wait."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.errors import StepFailed
from engine.measure.lock import HostLock
from engine.measure.probe.launch import run_probe
from engine.measure.probe.spec import LatencySpec, LoadSpec, MemorySpec, Spec, read_feeds, write_feeds
from tests.models import small_cnn

LONG = 20.0


def load(model: Path) -> LoadSpec:
    return LoadSpec(model=str(model), device="cpu", threads=1)


def endless(folder: Path) -> LatencySpec:
    """A model whose only loop ends in some hundred years."""
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "x_in", "x_out", "y")}
    flags = {name: helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go_in", "go_out")}
    number = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("Cos", ["x_in"], ["x_out"])],
        "body",
        [number, flags["go_in"], values["x_in"]],
        [flags["go_out"], values["x_out"]],
    )
    weights = [numpy_helper.from_array(np.array(2**62), "times"), numpy_helper.from_array(np.array(True), "go")]
    loop = helper.make_node("Loop", ["times", "go", "x"], ["y"], body=body)
    graph = helper.make_graph([loop], "endless", [values["x"]], [values["y"]], weights)
    path, feeds = folder / "endless.onnx", folder / "feeds.npz"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    write_feeds({"x": np.ones(1, np.float32)}, feeds)
    return LatencySpec(
        model=str(path),
        rivals=[],
        device="cpu",
        threads=1,
        feeds=str(feeds),
        order=[0],
        seconds=1,
        precision=0.1,
        seed=0,
        samples=str(folder / "samples.npy"),
    )


@contextmanager
def running(spec: Spec, lock: HostLock | None = None) -> Iterator[tuple[Future[dict[str, Any]], list[psutil.Process]]]:
    """A probe in the midst of its run, and its processes: a memory probe forks before it runs the model."""
    expected = 2 if isinstance(spec, MemorySpec) else 1
    with ThreadPoolExecutor() as pool:
        future = pool.submit(run_probe, spec, seconds=60, lock=lock)
        deadline = time.monotonic() + LONG
        while time.monotonic() < deadline:
            children = psutil.Process().children(recursive=True)
            family = [child for child in children if "engine.measure.probe" in " ".join(child.cmdline())]
            if len(family) == expected and sum(family[-1].cpu_times()[:2]) > 0.5:
                break
            time.sleep(0.02)
        try:
            yield future, family
        finally:
            for process in family:
                if process.is_running():
                    process.kill()


def test_a_probe_tells_the_interface_of_a_model(tmp_path: Path) -> None:
    answer = run_probe(load(small_cnn().save(tmp_path / "model.onnx")))
    assert answer["inputs"] == [["image", "tensor(float)", ["batch", 3, 16, 16]]]
    assert answer["outputs"] == [["scores", "tensor(float)", ["batch", 10]]]


def test_a_model_that_does_not_load_is_an_error_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x08nonsense")
    with pytest.raises(StepFailed, match=r"broken\.onnx.*INVALID_PROTOBUF") as caught:
        run_probe(load(path))
    assert caught.value.code == "probe_failed"


def test_a_native_crash_fails_the_probe_alone_and_names_the_signal(tmp_path: Path) -> None:
    with running(endless(tmp_path)) as (future, family):
        family[0].send_signal(signal.SIGSEGV)
        with pytest.raises(StepFailed, match="SIGSEGV") as caught:
            future.result(LONG)
    assert caught.value.code == "probe_crashed"


def test_a_probe_that_hangs_is_killed(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as caught:
        run_probe(endless(tmp_path), seconds=1.5)
    assert caught.value.code == "probe_timed_out"
    assert not [child for child in psutil.Process().children(recursive=True) if "probe" in " ".join(child.cmdline())]


def test_a_probe_is_held_while_another_job_measures(tmp_path: Path) -> None:
    lock, other = HostLock(tmp_path / "lock"), HostLock(tmp_path / "lock")
    with lock.computing(), running(endless(tmp_path), lock) as (_, family):
        with other.measuring():
            assert {process.status() for process in family} == {psutil.STATUS_STOPPED}
        deadline = time.monotonic() + LONG
        while any(process.status() == psutil.STATUS_STOPPED for process in family) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert psutil.STATUS_STOPPED not in {process.status() for process in family}


def test_feeds_survive_the_way_to_a_probe_whatever_their_names(tmp_path: Path) -> None:
    feeds = {
        "../../etc/passwd": np.arange(4.0),
        "file": np.array([[True], [False]]),
        "": np.array(["a", "bé"], dtype=object),
    }
    write_feeds(feeds, tmp_path / "feeds.npz")
    again = read_feeds(tmp_path / "feeds.npz")
    assert list(again) == list(feeds)
    assert all(np.array_equal(again[name], feeds[name]) and again[name].dtype == feeds[name].dtype for name in feeds)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_memory_probe_and_its_fork_live_and_die_together(tmp_path: Path, victim: int) -> None:
    forever = endless(tmp_path)
    spec = MemorySpec(model=forever.model, device="cpu", threads=1, feeds=forever.feeds, runs=1)
    with running(spec) as (future, family):
        family[victim].kill()
        with pytest.raises(StepFailed, match="SIGKILL"):
            future.result(LONG)
        assert not psutil.wait_procs(family, timeout=LONG)[1]

"""One measurement in a fresh process: `python -I -m engine.measure.probe SPEC.json RESULT.json`.

A user's model runs in ONNX Runtime only here (and in calibration), so that a native crash takes one trial with it and
not the job. Nothing is caught: an error ends the process, and `engine.measure.probe.launch` says what became of it.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engine.measure.probe.pinning import pin_to_cores
from engine.measure.probe.spec import (
    EmulationSpec,
    GraphTimesSpec,
    LatencySpec,
    LoadSpec,
    MemorySpec,
    OutputsSpec,
    ProfileSpec,
    Spec,
    Sums,
    read_feeds,
    read_spec,
)
from engine.measure.probe.timing import SHORTEST_TURN_S, time_in_turns, warmed_up
from engine.measure.session import open_session, output_names, shared_options

Result = dict[str, Any]

WEIGHTS_OUTSIDE = "session.optimized_model_external_initializers_file_name"
PR_SET_PDEATHSIG = 1  #: of <linux/prctl.h>


def load(spec: LoadSpec) -> Result:
    session = open_session(Path(spec.model), spec.device, shared_options(spec.threads))
    return {
        "inputs": [[value.name, value.type, value.shape] for value in session.get_inputs()],
        "outputs": [[value.name, value.type, value.shape] for value in session.get_outputs()],
    }


def latency(spec: LatencySpec) -> Result:
    pin_to_cores(spec.threads)
    feeds, models = read_feeds(Path(spec.feeds)), [spec.model, *spec.rivals]
    sessions, load_ms, first_run_ms = {}, {}, {}
    open_session(Path(models[spec.order[0]]), spec.device, shared_options(spec.threads))  # pays for the runtime's start
    for slot in spec.order:
        with stopwatch(load_ms, slot):
            sessions[slot] = open_session(Path(models[slot]), spec.device, shared_options(spec.threads))
        with stopwatch(first_run_ms, slot):
            sessions[slot].run(output_names(sessions[slot]), feeds)
    runs = [_runner(sessions[slot], feeds) for slot in range(len(models))]
    samples = time_in_turns(runs, seconds=spec.seconds, precision=spec.precision, seed=spec.seed)
    np.save(spec.samples, samples)
    slots = range(len(models))
    return {"load_ms": [load_ms[slot] for slot in slots], "first_run_ms": [first_run_ms[slot] for slot in slots]}


@contextmanager
def stopwatch(times_ms: dict[int, float], slot: int) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times_ms[slot] = 1000 * (time.perf_counter() - started)


def _runner(session: Any, feeds: dict[str, np.ndarray]) -> Callable[[], object]:
    names, run = output_names(session), session.run
    return lambda: run(names, feeds)


def graph_times(spec: GraphTimesSpec) -> Result:
    pin_to_cores(spec.threads)
    runs = []
    for graph, feeds in spec.graphs:
        session = open_session(Path(graph), spec.device, shared_options(spec.threads))
        runs.append(_runner(session, read_feeds(Path(feeds))))
    round_s = sum(max(warmed_up(run, 2 * SHORTEST_TURN_S), SHORTEST_TURN_S) for run in runs)
    least, most = spec.seconds
    seconds = min(max(spec.rounds * round_s, least), most)
    np.save(spec.samples, time_in_turns(runs, seconds=seconds, precision=0.0, seed=0))
    return {}


def memory(spec: MemorySpec) -> Result:
    """In a forked child: the peak of a process also covers the process that started it, until it forks."""
    reader, writer = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _die_with(parent)
        os.write(writer, str(_peak_bytes(spec)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        peak = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        os.kill(parent, os.WTERMSIG(status))
    if status:
        sys.exit(1)  # the child's traceback is on standard error
    return {"peak_bytes": int(peak)}


def _die_with(parent: int) -> None:
    """Whoever kills the probe kills what it forked."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _peak_bytes(spec: MemorySpec) -> int:
    session = open_session(Path(spec.model), spec.device, shared_options(spec.threads))
    feeds = read_feeds(Path(spec.feeds))
    for _ in range(spec.runs):
        session.run(output_names(session), feeds)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def outputs(spec: OutputsSpec) -> Result:
    from engine.measure.probe.collect import collect_outputs  # what it needs would weigh on the memory probe

    if spec.emulated_sums is None:
        session = open_session(Path(spec.model), spec.device, shared_options(spec.threads))
        return collect_outputs(session, Path(spec.samples), batch_size=spec.batch_size, folder=Path(spec.folder))
    with _emulated(spec, Sums(spec.emulated_sums)) as emulated:
        return collect_outputs(emulated, Path(spec.samples), batch_size=spec.batch_size, folder=Path(spec.folder))


def emulation(spec: EmulationSpec) -> Result:
    with _emulated(spec, Sums.SATURATING) as emulated:
        told = {"at_risk": emulated.at_risk, "is_complete": emulated.is_complete, "seconds": 0.0}
        if not emulated.at_risk or not emulated.is_complete:
            return told
        feeds, names = read_feeds(Path(spec.feeds)), output_names(emulated)
        emulated.run(names, feeds)
        started = time.perf_counter()
        emulated.run(names, feeds)
        return told | {"seconds": time.perf_counter() - started}


@contextmanager
def _emulated(spec: Spec, sums: Sums) -> Iterator[Any]:
    from engine.measure.emulation.session import EmulatedSession  # what it needs would weigh on the memory probe

    with tempfile.TemporaryDirectory(prefix="emulation-") as folder:
        saturates = sums is Sums.SATURATING
        yield EmulatedSession(Path(spec.model), Path(folder), threads=spec.threads, saturates=saturates)


def profile(spec: ProfileSpec) -> Result:
    """The first session writes the executed graph, the second one is profiled; saving must not slow it down."""
    pin_to_cores(spec.threads)
    from engine.beside import data_of, is_apart  # what it needs would weigh on the memory probe

    saving = shared_options(spec.threads)
    saving.optimized_model_filepath = spec.executed
    if is_apart(Path(spec.model)):
        saving.add_session_config_entry(WEIGHTS_OUTSIDE, data_of(Path(spec.executed)).name)
    open_session(Path(spec.model), spec.device, saving)
    profiling = shared_options(spec.threads)
    profiling.enable_profiling, profiling.profile_file_prefix = True, spec.prefix
    session = open_session(Path(spec.model), spec.device, profiling)
    run = _runner(session, read_feeds(Path(spec.feeds)))
    deadline = time.perf_counter() + spec.seconds
    for done in range(spec.warm_up + spec.runs):
        if done > spec.warm_up and time.perf_counter() > deadline:
            break
        run()
    return {"trace": session.end_profiling()}


KINDS: dict[type[Spec], Callable[[Any], Result]] = {
    LoadSpec: load,
    LatencySpec: latency,
    GraphTimesSpec: graph_times,
    MemorySpec: memory,
    OutputsSpec: outputs,
    EmulationSpec: emulation,
    ProfileSpec: profile,
}


def main(spec_path: str, result_path: str) -> None:
    spec = read_spec(Path(spec_path))
    Path(result_path).write_text(json.dumps(KINDS[type(spec)](spec)))


if __name__ == "__main__":
    main(*sys.argv[1:])

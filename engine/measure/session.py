"""One way to open a model in ONNX Runtime, so that every figure is taken as the model will be served.

Sessions that are timed in turns share one pool of threads. With a pool each, the idle workers of one session go on
spinning while another one runs, and take its cores: four sessions of one file at two threads took 20 ms a run, not 8.
"""

from functools import cache
from pathlib import Path

import onnxruntime

ERRORS_ONLY = 3
PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],  # not tested on a GPU
}

onnxruntime.disable_telemetry_events()


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Options of every session: sequential, `threads` threads, and never another format than ONNX."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def shared_options(threads: int) -> onnxruntime.SessionOptions:
    """The same, with the threads of the process's one pool, whose size is settled by the first call."""
    _make_pool(threads)
    options = session_options(threads)
    options.use_per_session_threads = False
    return options


@cache
def _make_pool(threads: int) -> None:
    onnxruntime.set_global_thread_pool_sizes(threads, 1)


def open_session(model: Path, device: str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Load a model on the device, and on no other."""
    providers = PROVIDERS[device]
    session = onnxruntime.InferenceSession(str(model), options, providers=providers)
    if session.get_providers()[0] != providers[0]:
        raise RuntimeError(f"ONNX Runtime has no {providers[0]} here")
    return session


def output_names(session: onnxruntime.InferenceSession) -> list[str]:
    return [output.name for output in session.get_outputs()]

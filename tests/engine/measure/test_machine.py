import os
import platform

import pytest

from engine.measure.machine import describe, has_fast_int8, usable_cores


def test_the_machine_is_described_with_measured_peaks() -> None:
    machine = describe(1)
    assert machine.cpu
    assert machine.cores == usable_cores() <= len(os.sched_getaffinity(0))
    assert machine.peak_gflops is not None and 1 < machine.peak_gflops < 5000
    assert machine.peak_gops_int8 is not None and 1 < machine.peak_gops_int8 < 50_000
    assert machine.bandwidth_gb_s is not None and 0.5 < machine.bandwidth_gb_s < 2000
    assert machine.versions["python"] == platform.python_version()
    assert {"onnxruntime", "onnx", "numpy", "strop"} <= set(machine.versions)


@pytest.mark.parametrize(
    ("flags", "fast"), [(["avx2", "fma"], False), (["avx2", "avx_vnni"], True), (["asimd", "asimddp"], True)]
)
def test_fast_int8_is_read_off_the_flags(flags: list[str], fast: bool) -> None:
    assert has_fast_int8(flags) is fast

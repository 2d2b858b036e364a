"""The machine that figures are taken on: what it is, and what it can do at best.

Peaks are measured, not looked up, through the same kernels that serve models: the fastest run of a matrix product of
384 × 384 × 384 in float32 and in 8 bits, and of reading and writing 64 MiB in all. They bound what a model can reach,
and their ratio bounds what int8 can bring.
"""

import os
import platform
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engine.graph import save
from engine.measure.probe.launch import run_probe
from engine.measure.probe.spec import Feeds, LatencySpec, write_feeds
from engine.report import Machine

#: instruction sets that decide which kernels run
TELLING_FLAGS = {
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "avx512_fp16"),
    *("avx_vnni", "avx512_vnni", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
}
#: with one of them four 8-bit products are summed in one instruction, exactly
FAST_INT8_FLAGS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}
LIBRARIES = ("strop", "onnxruntime", "onnx", "numpy")
SIDE = 384
COPIED_FLOATS = 8 << 20  #: 32 MiB read and 32 MiB written, more than most caches hold
SECONDS = 0.35  #: for each of the three peaks
QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")


def has_fast_int8(flags: list[str]) -> bool:
    """Does the CPU multiply 8-bit numbers faster than floats, and without saturating on the way?"""
    return not FAST_INT8_FLAGS.isdisjoint(flags)


@cache
def describe(threads: int) -> Machine:
    """This machine, with its peaks at this number of threads. Takes about two seconds, once per process.

    Take `HostLock.measuring()` around it.
    """
    cpu, flags = processor()
    product = 2 * SIDE**3
    return Machine(
        cpu=cpu,
        flags=flags,
        cores=usable_cores(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        os=operating_system(),
        peak_gflops=product / _fastest_ms(_float_product(), {"x": _noise()}, threads) / 1e6,
        peak_gops_int8=product / _fastest_ms(_int8_product(), {"x": _bytes()}, threads) / 1e6,
        bandwidth_gb_s=8 * COPIED_FLOATS / _fastest_ms(_copy(), {"x": _long()}, threads) / 1e6,
        versions={"python": platform.python_version(), **{library: version(library) for library in LIBRARIES}},
    )


# ── what it is ───────────────────────────────────────────────────────────────────────────────────────────────────────


def processor() -> tuple[str, list[str]]:
    """Name of the CPU and the telling ones of its flags, from the kernel."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or facts.get("Hardware") or platform.processor() or platform.machine()
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return name, sorted(TELLING_FLAGS.intersection(flags))


def usable_cores() -> int:
    """CPUs this process may use: by its affinity, and by the quota of its container."""
    allowed = len(os.sched_getaffinity(0))
    for path in QUOTAS:
        try:
            quota, *period = Path(path).read_text().split()
        except OSError:
            continue
        if quota.isdigit():
            return max(1, min(allowed, round(int(quota) / int(period[0] if period else 100_000))))
    return allowed


def operating_system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        name = platform.system()
    return f"{name}, kernel {platform.release()}, {platform.machine()}"


# ── what it can do ───────────────────────────────────────────────────────────────────────────────────────────────────


def _fastest_ms(model: ModelProto, feeds: Feeds, threads: int) -> float:
    with tempfile.TemporaryDirectory(prefix="machine-") as name:
        folder = Path(name)
        write_feeds(feeds, folder / "feeds.npz")
        spec = LatencySpec(
            model=str(save(model, folder / "peak.onnx")),
            rivals=[],
            device="cpu",
            threads=threads,
            feeds=str(folder / "feeds.npz"),
            order=[0],
            seconds=SECONDS,
            precision=0.0,
            seed=0,
            samples=str(folder / "samples.npy"),
        )
        run_probe(spec)
        return float(np.load(spec.samples).min())


def _float_product() -> ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _model(node, (TensorProto.FLOAT, TensorProto.FLOAT), [SIDE, SIDE], _noise())


def _int8_product() -> ModelProto:
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    return _model(node, (TensorProto.UINT8, TensorProto.INT32), [SIDE, SIDE], _bytes().astype(np.int8))


def _copy() -> ModelProto:
    node = helper.make_node("Neg", ["x"], ["y"])
    return _model(node, (TensorProto.FLOAT, TensorProto.FLOAT), [COPIED_FLOATS], None)


def _model(node: NodeProto, elements: tuple[int, int], shape: list[int], weights: np.ndarray | None) -> ModelProto:
    graph = helper.make_graph(
        [node],
        "peak",
        [helper.make_tensor_value_info("x", elements[0], shape)],
        [helper.make_tensor_value_info("y", elements[1], shape)],
        [] if weights is None else [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _noise() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)


def _bytes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 127, (SIDE, SIDE), np.uint8)


def _long() -> np.ndarray:
    return np.ones(COPIED_FLOATS, np.float32)

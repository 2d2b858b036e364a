"""Where the time of one run goes, operator by operator, from ONNX Runtime's own profiler.

The profiler times the nodes of the optimized, fused graph. That graph is saved beside the trace, so that each node's
multiply-accumulates and bytes follow from its real weights and shapes. An operator is bound by what takes longer,

    compute    2 · MACs / peak     of its precision
    memory     bytes / bandwidth   of a copy

or by neither, where both explain less than a tenth of its time: then launching, layout and bookkeeping cost most.
"""

import json
import re
import tempfile
from collections import Counter, defaultdict, deque
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from engine.graph import attribute, load_structure, save_structure, tensor_types
from engine.measure.complexity import CONVERSIONS, Tensors, bytes_moved, infer_shapes
from engine.measure.macs import Shape, macs_of
from engine.measure.probe.launch import run_probe
from engine.measure.probe.spec import Feeds, ProfileSpec, write_feeds
from engine.measure.trace import Execution, Run, faster_runs
from engine.recipe import Target
from engine.report import Bound, Machine, OperatorTime, Profile

WARM_UP, RUNS, SECONDS = 3, 30, 4.0
LEAST_EXPLAINED = 0.1  #: share of its time that a bound must explain
BLOCKED_LAYOUT = "com.microsoft.nchwc"  #: channels are rounded up to whole vectors
ADDED_TO_NAMES = re.compile(r"(_nchwc|_token_\d+)+$")
#: float in, but the product itself runs in 8 or 4 bits
COMPUTES_IN = {"DynamicQuantizeMatMul": "uint8", "DynamicQuantizeLSTM": "uint8", "MatMulNBits": "int4"}
EIGHT_BITS = {"uint8", "int8"}


def profile(model: Path, feeds: Feeds, target: Target, machine: Machine) -> Profile:
    """Time and cost of each executed operator. Take `HostLock.measuring()` around it."""
    with tempfile.TemporaryDirectory(prefix="profile-") as name:
        folder = Path(name)
        original = with_named_nodes(load_structure(model))
        write_feeds(feeds, folder / "feeds.npz")
        spec = ProfileSpec(
            model=str(save_structure(original, folder / "named.onnx", model)),
            device=target.device,
            threads=target.threads,
            feeds=str(folder / "feeds.npz"),
            warm_up=WARM_UP,
            runs=RUNS,
            seconds=SECONDS,
            executed=str(folder / "executed.onnx"),
            prefix=str(folder / "trace"),
        )
        trace = json.loads(Path(run_probe(spec)["trace"]).read_text())
        graph = ExecutedGraph(load_structure(Path(spec.executed)), original, feeds)
    return summarize(faster_runs(trace, WARM_UP), graph, machine)


def with_named_nodes(model: ModelProto) -> ModelProto:
    """Every node of the main graph gets a name that no other has, so that a time finds its node."""
    seen: Counter[str] = Counter()
    for node in model.graph.node:
        name = node.name or (node.output[0] if node.output else node.op_type)
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
    return model


class ExecutedGraph:
    """The graph as ONNX Runtime runs it, with the shapes that one run had."""

    def __init__(self, executed: ModelProto, original: ModelProto, feeds: Feeds) -> None:
        self._waiting: dict[str, deque[NodeProto]] = defaultdict(deque)
        for node in executed.graph.node:
            self._waiting[node.name or node.op_type].append(node)
        inferred = infer_shapes(original, sizes={name: array.shape for name, array in feeds.items()}).graph
        self._real = {name: known.shape for name, known in tensor_types(inferred).items() if known.shape}
        self.tensors = Tensors()
        for weight in executed.graph.initializer:
            self.tensors.add(weight.name, weight.data_type, tuple(weight.dims))
        for name, array in feeds.items():
            element = onnx.TensorProto.STRING if array.dtype == object else _element(array)
            self.tensors.add(name, element, array.shape)

    def node_of(self, execution: Execution) -> NodeProto | None:
        """The node behind a time; nodes that share a name, or have none, are taken in their order."""
        unnamed = re.sub(r"_\d+$", "", execution.node)
        for name in (execution.node, unnamed):
            nodes = self._waiting.get(name)
            if nodes and nodes[0].op_type == execution.operator:
                return nodes.popleft()
        return None

    def see(self, node: NodeProto, execution: Execution) -> None:
        """Take over the outputs' shapes from the run."""
        for name, seen in zip((name for name in node.output if name), execution.outputs, strict=False):
            self.tensors.add(name, seen.element, seen.shape)
        if node.domain == BLOCKED_LAYOUT:
            self._undo_padding(node)

    def _undo_padding(self, node: NodeProto) -> None:
        """The blocked layout rounds channels up to whole vectors; what counts is what the model asked for."""
        real = self._real.get(ADDED_TO_NAMES.sub("", node.name))
        if node.op_type == "ReorderInput" and not attribute(node, "channels_last", 0):
            real = self.tensors.shapes.get(node.input[0])
        if real and len(real) == len(self.tensors.shapes.get(node.output[0], ())):
            self.tensors.add(node.output[0], 0, real)
        if node.op_type == "Conv" and {*node.input[:2]} <= self.tensors.shapes.keys():
            channels, weight = self.tensors.shapes[node.input[0]][1], self.tensors.shapes[node.input[1]]
            each = max(channels // cast("int", attribute(node, "group", 1)), 1)
            self.tensors.add(node.input[1], 0, (weight[0], min(weight[1], each), *weight[2:]))


def summarize(runs: list[Run], graph: ExecutedGraph, machine: Machine) -> Profile:
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        for execution in run:
            times[execution.node, execution.index].append(execution.time_us)
    means = {key: sum(values) / len(runs) / 1000 for key, values in times.items()}
    first = {(execution.node, execution.index): execution for run in runs[::-1] for execution in run}
    in_order = sorted(first.values(), key=lambda execution: execution.start_us)
    total_ms = sum(means.values())
    operators = [_operator(each, means[each.node, each.index], total_ms, graph, machine) for each in in_order]
    all_macs = sum(operator.macs or 0 for operator in operators)
    return Profile(
        operators=[_with_share(operator, all_macs) for operator in operators],
        total_ms=total_ms,
        quantize_dequantize_ms=sum(each.time_ms for each in operators if each.operator in CONVERSIONS),
    )


def _operator(
    execution: Execution, time_ms: float, total_ms: float, graph: ExecutedGraph, machine: Machine
) -> OperatorTime:
    node = graph.node_of(execution)
    if node is not None:
        graph.see(node, execution)
    macs = macs_of(node, graph.tensors.shapes) if node is not None else None
    moved = bytes_moved(node, graph.tensors) if node is not None else None
    precision = precision_of(execution)
    return OperatorTime(
        name=ADDED_TO_NAMES.sub("", execution.node),
        operator=execution.operator,
        time_ms=time_ms,
        time_share=time_ms / total_ms if total_ms else 0.0,
        macs=macs,
        gflops=2 * macs / time_ms / 1e6 if macs and time_ms else None,
        bytes_moved=moved,
        bound=bound_of(time_ms, macs, moved, precision=precision, machine=machine),
        precision=precision,
        shape=_shape(execution, node, graph),
    )


def bound_of(time_ms: float, macs: int | None, moved: int | None, *, precision: str, machine: Machine) -> Bound:
    """What most of the operator's time can be explained by."""
    peak = machine.peak_gops_int8 if precision in EIGHT_BITS else machine.peak_gflops
    if macs is None or moved is None or not peak or not machine.bandwidth_gb_s:
        return Bound.UNKNOWN
    compute_ms, memory_ms = 2 * macs / peak / 1e6, moved / machine.bandwidth_gb_s / 1e6
    if max(compute_ms, memory_ms) < LEAST_EXPLAINED * time_ms:
        return Bound.OVERHEAD
    return Bound.COMPUTE if compute_ms >= memory_ms else Bound.MEMORY


def precision_of(execution: Execution) -> str:
    """NumPy's name of the type it computes in: that of its first input, but for kernels that convert by themselves."""
    if execution.operator in COMPUTES_IN or not execution.inputs or not execution.inputs[0].element:
        return COMPUTES_IN.get(execution.operator, "unknown")
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(execution.inputs[0].element)).name


def _shape(execution: Execution, node: NodeProto | None, graph: ExecutedGraph) -> list[int] | None:
    """Of the first output, channels in second place."""
    if not execution.outputs:
        return None
    shape: Shape = execution.outputs[0].shape
    if node is not None:
        shape = graph.tensors.shapes.get(node.output[0], shape)
        channels_last = node.op_type.startswith("Nhwc") or attribute(node, "channels_last", 0)
        if channels_last and len(shape) > 2:
            shape = (shape[0], shape[-1], *shape[1:-1])
    return list(shape)


def _with_share(operator: OperatorTime, all_macs: int) -> OperatorTime:
    share = operator.macs / all_macs if operator.macs is not None and all_macs else None
    return operator.model_copy(update={"macs_share": share})


def _element(array: np.ndarray) -> int:
    return onnx.helper.np_dtype_to_tensor_dtype(array.dtype)

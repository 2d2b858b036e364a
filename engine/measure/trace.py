"""ONNX Runtime's profile as it lies on disk: a list of timed events, in microseconds."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from onnx import TensorProto

CONTAINERS = {"If", "Loop", "Scan", "SequenceMap"}  #: their time contains that of the nodes inside
NODE_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class TensorSeen:
    element: int  #: onnx.TensorProto.DataType
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Execution:
    """One node in one run."""

    node: str  #: its name, or operator_index where it has none
    index: str
    operator: str
    start_us: float
    time_us: float
    inputs: list[TensorSeen]  #: without those that the kernel has packed away
    outputs: list[TensorSeen]

    @property
    def end_us(self) -> float:
        return self.start_us + self.time_us


Run = list[Execution]


def faster_runs(events: list[dict[str, Any]], warm_up: int) -> list[Run]:
    """The executions of the faster half of the runs: what interrupts a run distorts its shares."""
    whole = [event for event in events if event["cat"] == "Session" and event["name"] == "model_run"][warm_up:]
    limit = median(event["dur"] for event in whole)
    executions = sorted((_execution(event) for event in events if _is_node(event)), key=_outermost_first)
    return [_between(executions, run["ts"], run["ts"] + run["dur"]) for run in whole if run["dur"] <= limit]


def _is_node(event: dict[str, Any]) -> bool:
    return event["cat"] == "Node" and event["name"].endswith(NODE_SUFFIX)


def _outermost_first(execution: Execution) -> tuple[float, float]:
    return execution.start_us, -execution.time_us


def _between(executions: list[Execution], start: float, end: float) -> Run:
    """Of one run, without the nodes inside of branches and loops."""
    run: Run = []
    inside_until = 0.0
    for execution in executions:
        if not start <= execution.start_us <= end or execution.end_us <= inside_until:
            continue
        run.append(execution)
        if execution.operator in CONTAINERS:
            inside_until = execution.end_us
    return run


def _execution(event: dict[str, Any]) -> Execution:
    details = event["args"]
    return Execution(
        node=event["name"].removesuffix(NODE_SUFFIX),
        index=details.get("node_index", ""),
        operator=details["op_name"],
        start_us=event["ts"],
        time_us=event["dur"],
        inputs=_tensors(details.get("input_type_shape", [])),
        outputs=_tensors(details.get("output_type_shape", [])),
    )


def _tensors(entries: list[dict[str, list[int]]]) -> list[TensorSeen]:
    seen = []
    for entry in entries:
        for element, shape in entry.items():
            known = element.upper() in TensorProto.DataType.keys()  # noqa: SIM118 - not a mapping
            seen.append(TensorSeen(TensorProto.DataType.Value(element.upper()) if known else 0, tuple(shape)))
    return seen

"""How tests use the stand-in child: its command, the report it hands out, and requests that tell it what to do."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.recipe import JobRequest, Minimize, Recipe, SimplifyGraph
from engine.report import (
    Comparison,
    Environment,
    Figures,
    Machine,
    ModelSummary,
    Outcome,
    Report,
    StepFit,
    TensorInfo,
    Trial,
    TrialState,
    Verdict,
)
from tests.faults import child
from tests.faults.child import Act
from workers.self_test import DENIES

STEPS = ("simplify_graph", "quantize_static", "quantize_dynamic")
MODEL = b"\x08\x08" + b"a stand-in for a model" * 8  # begins like an ONNX file; only the stand-in ever reads it


def command(folder: Path) -> str:
    """The setting `engine_command`: the stand-in, and the files it hands out, which are made in this folder."""
    report = folder / "report.json"
    report.write_text(_report().model_dump_json())
    probes = dict.fromkeys(set().union(*DENIES.values()), True)
    report.with_name("probes.json").write_text(json.dumps(probes))
    return f"{sys.executable} -I -S {child.__file__} {report}"


def seed_of(act: Act, *, seconds: float = 0) -> int:
    return act + 100 * round(1000 * seconds)


def request(
    model: str, act: Act = Act.SUCCEED, *, seconds: float = 0, minutes: float = 20, searches: bool = False
) -> dict[str, Any]:
    """The body of a job that makes the stand-in act."""
    what = {"goal": {"minimize": "latency"}} if searches else {"steps": [{"kind": "simplify_graph"}]}
    body = JobRequest.model_validate(
        {
            "model": model,
            **what,
            "seed": seed_of(act, seconds=seconds),
            "budget": {"minutes": minutes},
        }
    )
    return body.model_dump(mode="json")


def _report() -> Report:
    tensor = TensorInfo(name="x", dtype="float32", shape=["N", 4])
    model = ModelSummary(
        inputs=[tensor],
        outputs=[tensor.model_copy(update={"name": "y"})],
        opset=17,
        ir_version=8,
        operators={"Gemm": 1},
        nodes=1,
        parameters=20,
        macs=16,
        size_bytes=len(MODEL),
        expected_memory_bytes=1000,
        steps=[StepFit(kind=kind, applies=True) for kind in STEPS],
    )
    figures = Figures(size_bytes=len(MODEL), parameters=20, macs=16, bytes_moved=100)
    machine = Machine(cpu="stand-in", flags=[], cores=1, memory_bytes=1, os="none", versions={})
    return Report(
        created_at=datetime.now(UTC).isoformat(),
        verdict=Verdict(
            outcome=Outcome.NO_IMPROVEMENT, minimize=Minimize.LATENCY, headline="Nothing was done.", reasons=["a test"]
        ),
        recipe=Recipe(steps=[SimplifyGraph()]),
        reproduce=[],
        model=model,
        baseline=figures,
        optimized=figures,
        comparison=Comparison(),
        trials=[Trial(id="t01", steps=[SimplifyGraph()], label="the same", state=TrialState.REJECTED, reason="a test")],
        environment=Environment(machine=machine, sandbox="none", execution_provider="none", seeds={}, digests={}),
    )

"""One model, every step: `python -m benchmarks.zoo.trial MODEL FOLDER SHAPES [STEP…]` prints a JSON line an outcome.

A process of its own, so that a crash is a row of the table. What a step proposes is judged as a job judges it: each
file loads, keeps the interface, runs on every sample. Speed and fidelity are those of the fastest one, or of a truer
one that is about as fast.

`quantize_static` is asked for all that it can do: every remedy, the choice of a format, and one mixture with float.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import onnx

from engine import recipe
from engine.data import Samples, synthetic_samples
from engine.errors import EngineError
from engine.graph import load
from engine.inspect import inspect_model
from engine.measure import accuracy
from engine.measure.glimpse import Glimpse
from engine.pipeline.bench import check_interface
from engine.recipe import Calibration, QuantizeStatic, Step, Target, UseModel
from engine.report import TensorInfo
from engine.runtime import check_loads
from engine.signature import Signature
from engine.steps import STEPS, Rounds, Skipped, Standing, StepContext, Variant

SAMPLES = 8
NOISE = 0.1  #: files that differ by less in time are taken to be equally fast
ALL_REMEDIES = {"calibration": Calibration.PERCENTILE, "equalize": True, "smooth": True, "correct_bias": True}
MISSED = Standing(inside=False, loss_over_limit=2.0)
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Outcome:
    """What became of one step; of the step `admit` before all others, what the model is."""

    step: str
    state: str  #: done, skipped or failed
    words: str = ""
    sqnr_db: float = 0.0  #: of the best file's worst output, infinite where the outputs are equal
    speedup: float = 0.0  #: of the best file, by a quick look
    files: int = 0
    seconds: float = 0.0


def main(model: Path, folder: Path, shapes: Shapes, wanted: list[str]) -> None:
    """Admission first; what is refused there is not tried any further."""
    try:
        inspected = inspect_model(model, folder)
        model = inspected.canonical or model
        samples = samples_for(Signature.of(load(model)), shapes)
        began = time.monotonic()
        accuracy.run_outputs(model, samples, Target(), folder / "outputs")
        run_ms = (time.monotonic() - began) * 1000 / len(samples)
    except EngineError as error:
        _tell(Outcome("admit", "refused", f"{error.detail} {error.remedy}"))
        return
    found = inspected.summary
    _tell(Outcome("admit", "done", f"opset {found.opset}, {found.nodes} nodes"))
    glimpse = Glimpse(model, samples, Target(), folder / "glimpse", run_ms=run_ms)
    for kind in STEPS:
        if kind is UseModel:  # the model of somebody else
            continue
        name = kind.model_fields["kind"].default
        if not wanted or name in wanted:
            _tell(_tried(_step(kind), folder / name, glimpse))


def _step(kind: type[Step]) -> Step:
    return kind.model_validate(ALL_REMEDIES if kind is QuantizeStatic else {})


def samples_for(signature: Signature, shapes: Shapes) -> Samples:
    """Made-up samples; an input whose shape is given has it in every run."""
    inputs = tuple(_with_shape(tensor, shapes.get(tensor.name)) for tensor in signature.inputs)
    return synthetic_samples(replace(signature, inputs=inputs), SAMPLES, 0)


def _with_shape(tensor: TensorInfo, shape: tuple[int, ...] | None) -> TensorInfo:
    return tensor if shape is None else tensor.model_copy(update={"shape": list(shape)})


def _tell(outcome: Outcome) -> None:
    print(json.dumps(asdict(outcome)), flush=True)


def _tried(step: Step, folder: Path, glimpse: Glimpse) -> Outcome:
    began, model = time.monotonic(), glimpse.original
    context = StepContext(glimpse.samples, folder, Target(), 0, glimpse=glimpse)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        outcome = STEPS[type(step)].run(step, model, context)
        if isinstance(outcome, Skipped):
            return Outcome(step.kind, "skipped", outcome.reason, seconds=time.monotonic() - began)
        variants = list(_variants(outcome))
        for variant in variants:
            check_file(load(model), variant.path)
            check_runs(variant, glimpse)
        speedups = glimpse.times([variant.path for variant in variants])
    except EngineError as error:
        return Outcome(step.kind, "failed", f"{error.code}: {error.detail}", seconds=time.monotonic() - began)
    near = [pair for pair in zip(speedups, variants, strict=True) if pair[0] >= max(speedups) * (1 - NOISE)]
    speedup, best = max(near, key=lambda pair: glimpse.fidelity(pair[1].path))
    seconds = time.monotonic() - began
    return Outcome(step.kind, "done", best.label, glimpse.fidelity(best.path), speedup, len(variants), seconds)


def _variants(outcome: Rounds | list[Variant]) -> Iterator[Variant]:
    """All files of a step; one that works in rounds is told that the first one missed the limit, and makes one more."""
    if isinstance(outcome, list):
        yield from outcome
        return
    yield from next(outcome)
    with contextlib.suppress(StopIteration):
        yield from outcome.send(MISSED)


def check_runs(variant: Variant[Any], glimpse: Glimpse) -> None:
    """Raises what broke where the file does not run."""
    glimpse.fidelity(variant.path)
    if variant.path in glimpse.failures:
        raise glimpse.failures[variant.path]


def check_file(before: onnx.ModelProto, path: Path) -> None:
    """The file loads; interface, dynamic axes, metadata, domain and version are as they were."""
    after = load(path)
    check_interface(Signature.of(before), Signature.of(after))
    check_loads(path)
    for name in ("domain", "model_version", "doc_string", "producer_name"):
        assert getattr(before, name) == getattr(after, name), f"{name} changed"
    pairs = [{entry.key: entry.value for entry in model.metadata_props} for model in (before, after)]
    assert pairs[0] == pairs[1], "metadata_props changed"
    shapes = [[_axes(value) for value in (*model.graph.input, *model.graph.output)] for model in (before, after)]
    weights = {tensor.name for tensor in before.graph.initializer}
    kept = [axes for axes in shapes[0] if axes[0] not in weights]
    assert kept == shapes[1], f"interface changed: {kept} {shapes[1]}"


def _axes(value: onnx.ValueInfoProto) -> tuple[str, list[int | str]]:
    return value.name, [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


assert set(get_args(get_args(recipe.Step)[0])) >= set(STEPS)

if __name__ == "__main__":
    arguments = sys.argv[1:]
    given = {name: tuple(shape) for name, shape in json.loads(arguments[2]).items()}
    main(Path(arguments[0]), Path(arguments[1]), given, arguments[3:])

"""The beginning of a job: what the model is, which samples it is judged by, and on what machine."""

from dataclasses import dataclass
from pathlib import Path

from engine.admission import admit
from engine.digest import sha256
from engine.errors import ModelRejected
from engine.inspect import summarize
from engine.measure.lock import HostLock
from engine.measure.machine import describe
from engine.pipeline.bench import Bench
from engine.pipeline.material import Material, gather
from engine.protocol import EngineRequest
from engine.recipe import Learning, Recipe
from engine.report import Machine, ModelSummary
from engine.signature import Signature


@dataclass(frozen=True)
class Start:
    bench: Bench
    material: Material
    summary: ModelSummary
    machine: Machine
    digests: dict[str, str]


def begin(request: EngineRequest, recipe: Recipe, attempt: Path, lock: HostLock) -> Start:
    """Raises ModelRejected or DataRejected where there is nothing to start from."""
    if request.model is None:
        raise ModelRejected("model_missing", "The request names no model.", "Name an uploaded model.")
    original, folder = attempt / request.model, attempt / "work" / "scratch"
    model = admit(original)
    signature = Signature.of(model)
    training = any(isinstance(step, Learning) for step in recipe.steps or ())
    material = gather(request, attempt, folder, signature, recipe.seed, for_training=training)
    with lock.measuring():
        machine = describe(recipe.target.threads)
    bench = Bench(original, recipe, signature, material.evaluation, folder, lock)
    summary = summarize(model, original.stat().st_size)
    return Start(bench, material, summary, machine, _digests(request, attempt))


def _digests(request: EngineRequest, attempt: Path) -> dict[str, str]:
    named = {"model": request.model, "calibration data": request.calibration, "evaluation data": request.evaluation}
    return {name: sha256(attempt / path) for name, path in named.items() if path is not None}

"""The beginning of a job: what the model is, which samples it is judged by, and on what machine."""

from dataclasses import dataclass
from pathlib import Path

from engine import beside
from engine.admission import admit
from engine.bundle import canonical
from engine.deeper import may_train
from engine.digest import sha256
from engine.errors import ModelRejected
from engine.inspect import summarize
from engine.measure.lock import HostLock
from engine.measure.machine import describe
from engine.pipeline.bench import Bench
from engine.pipeline.material import Material, gather
from engine.protocol import EngineRequest
from engine.recipe import Learning, Recipe, UseModel
from engine.report import Machine, ModelSummary
from engine.signature import Signature
from engine.steps.base import Other


@dataclass(frozen=True)
class Start:
    bench: Bench
    material: Material
    summary: ModelSummary
    machine: Machine
    digests: dict[str, str]
    name: str  #: of the original, for people
    others: dict[str, Other]  #: models to compare with or to go on with


def begin(request: EngineRequest, recipe: Recipe, attempt: Path, lock: HostLock) -> Start:
    """Raises ModelRejected or DataRejected where there is nothing to start from."""
    if request.model is None:
        raise ModelRejected("model_missing", "The request names no model.", "Name an uploaded model.")
    folder = attempt / "work" / "scratch"
    original = canonical(attempt / request.model, folder)
    model = admit(original, beside.companions(original))
    signature = Signature.of(model)
    material = gather(
        request,
        attempt,
        folder,
        signature,
        recipe.seed,
        for_training=may_train(recipe) or any(isinstance(step, Learning) for step in recipe.steps or ()),
        for_search=recipe.goal is not None,
        only_to_judge=recipe.goal is None and all(isinstance(step, UseModel) for step in recipe.steps or ()),
    )
    with lock.measuring():
        machine = describe(recipe.target.threads)
    bench = Bench(original, recipe, signature, material.evaluation, folder, lock, material.unseen)
    summary = summarize(model, beside.size_bytes(original))
    others = {called: Other(attempt / one.path, one.name) for called, one in request.others.items()}
    return Start(bench, material, summary, machine, _digests(request, attempt), request.model_name, others)


def _digests(request: EngineRequest, attempt: Path) -> dict[str, str]:
    named = {"model": request.model, "calibration data": request.calibration, "evaluation data": request.evaluation}
    named |= {f"model {called}": other.path for called, other in request.others.items()}
    return {name: sha256(attempt / path) for name, path in named.items() if path is not None}

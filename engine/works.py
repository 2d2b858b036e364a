"""What a child can be asked to do; each work answers with the last event of a success, or raises an EngineError.

Each imports what it needs only when it is asked for, so that an inspection does not pay for the optimizer.
"""

from collections.abc import Callable

from engine.errors import DataRejected, ModelRejected
from engine.protocol import Confinement, EngineRequest, Finished, Stage, Work
from engine.surroundings import Surroundings


def _optimize(request: EngineRequest, here: Surroundings) -> Finished:
    if request.recipe is None:
        raise ModelRejected("recipe_missing", "The request holds no recipe.", "Send steps or a goal.")
    from engine.pipeline.job import optimize

    return optimize(request, request.recipe, here)


def _inspect_model(request: EngineRequest, here: Surroundings) -> Finished:
    from engine.inspect import inspect_model

    here.emit(Stage(stage="inspecting"))
    if request.model is None:
        raise ModelRejected("model_missing", "The request names no model.", "Name an uploaded model.")
    found = inspect_model(here.attempt / request.model, here.work)
    canonical = str(found.canonical.relative_to(here.attempt)) if found.canonical else None
    return Finished(model=found.summary, canonical=canonical)


def _inspect_dataset(request: EngineRequest, here: Surroundings) -> Finished:
    from engine.inspect import inspect_dataset

    here.emit(Stage(stage="inspecting"))
    if request.calibration is None:
        raise DataRejected("dataset_missing", "The request names no data set.", "Name an uploaded data set.")
    return Finished(dataset=inspect_dataset(here.attempt / request.calibration, here.work / "scratch"))


def _self_test(request: EngineRequest, here: Surroundings) -> Finished:
    from engine.confine.breakout import break_out

    return Finished(probes=break_out(here.attempt, request.confinement or Confinement()))


WORKS: dict[Work, Callable[[EngineRequest, Surroundings], Finished]] = {
    Work.OPTIMIZE: _optimize,
    Work.INSPECT_MODEL: _inspect_model,
    Work.INSPECT_DATASET: _inspect_dataset,
    Work.SELF_TEST: _self_test,
}

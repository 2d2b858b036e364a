"""Another model takes the place of what there is; whoever made it, it is admitted, verified and measured like a result.

Alone it compares a user's own candidate with the original. Before `distill` it is a student that learns from the
original as its teacher. Pays where a smaller network is at hand already. Does not pay where its inputs or outputs
differ from the original's: then nothing could serve both, and the step fails with the difference named.
"""

import shutil
from pathlib import Path

import onnx

from engine import beside
from engine.admission import admit
from engine.bundle import canonical
from engine.errors import StepFailed
from engine.recipe import UseModel
from engine.steps.base import StepContext, Variant


def refuse(model: onnx.ModelProto) -> str | None:
    """Never: that the interfaces agree is checked when a request names both models."""
    del model
    return None


def run(step: UseModel, model: Path, context: StepContext) -> list[Variant]:
    """One file: the other model."""
    del model
    other = context.others.get(step.model)
    if other is None:
        raise StepFailed("model_missing", f"There is no model {step.model} here.", "Name an uploaded model.")
    path = context.folder / "other.onnx"
    found = canonical(other.path, context.folder)
    if found == other.path:
        shutil.copyfile(found, path)  # inputs may only be read, and a candidate's file may go
    else:
        path = found
    admit(path, beside.companions(path))
    return [Variant(path, step, other.name)]

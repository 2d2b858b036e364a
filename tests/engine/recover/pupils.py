"""Teachers, students that lost something, and samples for both."""

from pathlib import Path

import onnx

from engine.data import Samples, synthetic_samples
from engine.graph import load
from engine.recover import Classroom, Options, Recovered, recover
from engine.signature import Signature


def samples_for(path: Path, count: int = 256, seed: int = 0) -> Samples:
    return synthetic_samples(Signature.of(load(path)), count, seed)


def taught(
    student: Path, teacher: Path | None, folder: Path, samples: Samples | None = None, **options: object
) -> Recovered:
    """What came of it; fails where nothing did."""
    outcome = attempt(student, teacher, folder, samples, **options)
    assert isinstance(outcome, Recovered), outcome
    return outcome


def attempt(
    student: Path, teacher: Path | None, folder: Path, samples: Samples | None = None, **options: object
) -> Recovered | str:
    wanted = Options(**{"steps": 120, "rows": 32, "rate": 3e-3, **options})
    return recover(student, teacher, samples or samples_for(student), wanted, Classroom(folder))


def without_weights(model: onnx.ModelProto) -> bytes:
    """All of a model but the values of its weights."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for weight in copy.graph.initializer:
        weight.ClearField("raw_data")
        weight.ClearField("float_data")
    return copy.SerializeToString(deterministic=True)

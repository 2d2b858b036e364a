"""The samples of a job: some to learn ranges from, others to judge by, and a warning wherever they are thin.

One data set is split once by the seed. Without any, inputs are made up: good for timing, blind to accuracy. Rows are
shuffled by the seed, so that the first hundred of a set that is sorted by class still hold every class.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from engine.data import Samples, open_samples, synthetic_samples
from engine.errors import DataRejected
from engine.protocol import EngineRequest
from engine.signature import Signature

FEWEST_TO_JUDGE, FEW_TO_LEARN, FEW_TO_JUDGE = 2, 16, 100
MADE_UP = 96

NO_DATA = (
    "No data was uploaded, so inputs were made up. Speed, size and memory are real, but accuracy was only compared "
    "with the original on noise, and 8-bit ranges learned from noise rarely fit real data. Upload samples before you "
    "deploy."
)


@dataclass(frozen=True)
class Material:
    calibration: Samples
    evaluation: Samples
    source: Literal["uploaded", "synthetic"]
    warnings: list[str]


def gather(request: EngineRequest, attempt: Path, folder: Path, signature: Signature, seed: int) -> Material:
    """Raises DataRejected, naming the array and the remedy."""
    if request.calibration is None:
        calibration, evaluation = synthetic_samples(signature, MADE_UP, seed).split(seed)
        return Material(calibration, evaluation, "synthetic", [NO_DATA])
    calibration = open_samples(attempt / request.calibration, signature, request.labels, folder / "calibration")
    if request.evaluation is None:
        calibration, evaluation = calibration.split(seed)
    else:
        evaluation = open_samples(attempt / request.evaluation, signature, request.labels, folder / "evaluation")
    if len(evaluation) < FEWEST_TO_JUDGE:
        detail = f"{len(evaluation)} sample is left to judge a candidate by; a spread needs at least {FEWEST_TO_JUDGE}."
        raise DataRejected("dataset_too_few_samples", detail, "Upload more samples.")
    calibration = shuffled(calibration, seed)
    return Material(calibration, evaluation, "uploaded", _thin(calibration, evaluation))


def _thin(calibration: Samples, evaluation: Samples) -> list[str]:
    warnings = []
    if len(calibration) < FEW_TO_LEARN:
        warnings.append(
            f"Only {len(calibration)} calibration samples: 8-bit ranges learned from so few may clip what comes later; "
            "100 to 500 are usual."
        )
    if len(evaluation) < FEW_TO_JUDGE:
        warnings.append(f"Only {len(evaluation)} evaluation samples: an accuracy drop is known roughly at best.")
    return warnings


def shuffled(samples: Samples, seed: int) -> Samples:
    """The same rows in another order; rows of one run stay together."""
    unit = samples.rows_per_run or 1
    runs = samples.rows[: len(samples) // unit * unit].reshape(-1, unit)
    return replace(samples, rows=np.random.default_rng(seed).permutation(runs).ravel())


def some(samples: Samples, count: int, seed: int) -> Samples:
    """So many rows, drawn by the seed and in their order on disk; all of them where there are not more."""
    if len(samples) <= count:
        return samples
    drawn = shuffled(samples, seed).first(count)
    unit = samples.rows_per_run or 1
    runs = drawn.rows.reshape(-1, unit)
    return replace(drawn, rows=runs[np.argsort(runs[:, 0])].ravel())

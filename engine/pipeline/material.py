"""The samples of a job: some to learn ranges from, others to judge by, and a warning wherever they are thin.

One data set is split once by the seed. Without any, inputs are made up: good for timing, blind to accuracy. Rows are
shuffled by the seed, so that the first hundred of a set that is sorted by class still hold every class.

How few are too few to judge by? Where none of n decisions changed, a loss of 3/n is still possible (rule of three, at
95 %). So 30 are the fewest that can rule out a loss of a tenth, which is never offered unasked, and fewer are refused.
Where more still cannot tell what the limit asks for, the report says so, and how many could.

A search that chose the best of many by some samples cannot be judged by them: what is best there is partly luck. So a
third of the evaluation samples is searched with, and the others, which the search never sees, judge in the end.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from engine.data import Samples, open_samples, synthetic_samples
from engine.errors import DataRejected
from engine.protocol import EngineRequest
from engine.signature import Signature

FEWEST_TO_JUDGE, FEW_TO_LEARN, FEW_TO_JUDGE = 30, 16, 100
FEWEST_TO_SPLIT = FEWEST_TO_JUDGE * 3 // 2  #: a third is learned from
FEWEST_TO_SEARCH = 3 * FEWEST_TO_JUDGE  #: a third is chosen by, the rest judges
FEWEST_TO_TEACH = 500  #: a search teaches by; fewer are learned by heart
MADE_UP = 96

NO_DATA = (
    "No data was uploaded, so inputs were made up. Speed, size and memory are real, but accuracy was only compared "
    "with the original on noise, and 8-bit ranges learned from noise rarely fit real data. Upload samples before you "
    "deploy."
)


@dataclass(frozen=True)
class Material:
    calibration: Samples
    evaluation: Samples  #: to weigh candidates by
    unseen: Samples | None  #: to judge by in the end; None where the same do both
    source: Literal["uploaded", "synthetic"]
    warnings: list[str]

    @property
    def digest(self) -> str:
        """Of which rows are in which part, and of their labels."""
        digest = hashlib.sha256()
        for part in (self.calibration, self.evaluation, self.unseen):
            for array in (part.rows, part.labels) if part else ():
                digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
            digest.update(b"end")
        return digest.hexdigest()


def gather(
    request: EngineRequest,
    attempt: Path,
    folder: Path,
    signature: Signature,
    seed: int,
    *,
    for_training: bool = False,
    for_search: bool = False,
    only_to_judge: bool = False,
) -> Material:
    """Where nothing is learned or chosen, one data set judges as a whole. Raises DataRejected with the remedy."""
    if request.calibration is None:
        calibration, evaluation = synthetic_samples(signature, MADE_UP, seed).split(seed)
        return Material(calibration, evaluation, None, "synthetic", [NO_DATA])
    calibration = open_samples(attempt / request.calibration, signature, request.labels, folder / "calibration")
    if request.evaluation is None and only_to_judge:
        evaluation = calibration
        _check_enough(evaluation, "The data set has", FEWEST_TO_JUDGE)
    elif request.evaluation is None:
        _check_enough(calibration, "The data set has", FEWEST_TO_SPLIT)
        enough = not for_search or len(calibration) * 2 // 3 >= FEWEST_TO_TEACH
        calibration, evaluation = calibration.split(seed, for_training=for_training and enough)
    else:
        evaluation = open_samples(attempt / request.evaluation, signature, request.labels, folder / "evaluation")
        _check_enough(evaluation, "The data set for evaluation has", FEWEST_TO_JUDGE)
    calibration, warnings = shuffled(calibration, seed), _warnings(calibration, evaluation)
    if not for_search:
        return Material(calibration, evaluation, None, "uploaded", warnings)
    if len(evaluation) < FEWEST_TO_SEARCH:
        return Material(calibration, evaluation, None, "uploaded", [*warnings, _not_apart(len(evaluation))])
    return Material(calibration, *_apart(evaluation, seed), "uploaded", warnings)


def _apart(evaluation: Samples, seed: int) -> tuple[Samples, Samples]:
    """A third to search with, the rest to judge by; in their order on disk."""
    runs = shuffled(evaluation, seed).rows.reshape(-1, evaluation.rows_per_run or 1)
    parts = (runs[: len(runs) // 3], runs[len(runs) // 3 :])
    searched, unseen = (replace(evaluation, rows=part[np.argsort(part[:, 0])].ravel()) for part in parts)
    return searched, unseen


def _not_apart(samples: int) -> str:
    return (
        f"The {samples} evaluation samples are too few to keep some from the search, so the best file is judged by "
        f"those that it was chosen by, and may look better than it is; of {FEWEST_TO_SEARCH} or more some are kept."
    )


def _check_enough(samples: Samples, subject: str, fewest: int) -> None:
    if len(samples) >= fewest:
        return
    of_whole_runs = f" (in whole runs of {samples.rows_per_run})" if (samples.rows_per_run or 1) > 1 else ""
    detail = (
        f"{subject} {len(samples)} samples{of_whole_runs}, and at least {fewest} are needed: of {FEWEST_TO_JUDGE} that "
        "are judged, none of which changes, a loss of 10 points can just be ruled out."
    )
    remedy = (
        f"Upload at least {FEWEST_TO_SPLIT} samples, of which a third is learned from, or a data set for evaluation of "
        f"at least {FEWEST_TO_JUDGE}. Without any data inputs are made up, and nothing is said of the accuracy."
    )
    raise DataRejected("too_few_samples", detail, remedy)


def _warnings(calibration: Samples, evaluation: Samples) -> list[str]:
    warnings = list(dict.fromkeys([*calibration.notes, *evaluation.notes]))
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

"""What could take the place of layers: what each saves and costs alone, and how well the sum predicted the whole."""

from dataclasses import dataclass

from engine import words
from engine.measure.accuracy.metrics import in_decibels
from engine.report import LayerReplacement, Report, Trial

MOST_ROWS = 60


@dataclass(frozen=True)
class ReplacedRow:
    layer: str
    operator: str
    move: str
    chosen: bool
    noise: str
    noise_percent: float  #: of the noisiest one
    saved: str
    saved_percent: float  #: of the one that saves most


@dataclass(frozen=True)
class Replaced:
    trial: str
    prediction: str
    rows: list[ReplacedRow]
    more: int  #: that are not shown


def replaced(report: Report) -> Replaced | None:
    """Of the offered file, else of the last one in which layers were replaced."""
    trials = [trial for trial in report.trials if trial.replacements]
    chosen = [trial for trial in trials if trial.id == report.verdict.chosen]
    return _of(chosen[0] if chosen else trials[-1]) if trials else None


def _of(trial: Trial) -> Replaced:
    found = trial.replacements
    assert found is not None, "only such trials are asked for"
    noise = max((one.noise_share for one in found.layers), default=0)
    saved = max((one.saved_ms for one in found.layers), default=0)
    first = sorted(found.layers, key=lambda one: not one.chosen)[:MOST_ROWS]
    rows = [_row(one, noise or 1, max(saved, 1e-9)) for one in found.layers if one in first]
    before, after, measured = map(words.milliseconds, (found.whole_ms, found.predicted_ms, found.measured_ms))
    prediction = (
        f"One run took {before} before. By the sum of what each saves alone it would take {after} after; it was "
        f"measured to take {measured}."
    )
    return Replaced(trial.id, prediction, rows, max(len(found.layers) - MOST_ROWS, 0))


def _row(one: LayerReplacement, noisiest: float, most_saved: float) -> ReplacedRow:
    noise_db = in_decibels(one.noise_share) if one.noise_share else None
    return ReplacedRow(
        layer=one.layer,
        operator=one.operator,
        move=one.move.replace("_", " "),
        chosen=one.chosen,
        noise=words.NOTHING if noise_db is None else f"{words.digits(noise_db)} dB",
        noise_percent=round(100 * one.noise_share / noisiest, 2),
        saved=words.milliseconds(one.saved_ms),
        saved_percent=round(100 * max(one.saved_ms, 0) / most_saved, 2),
    )

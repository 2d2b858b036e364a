"""Layers between 8 bits and float: what 8 bits cost and gain in each, the most harmful first."""

from dataclasses import dataclass

from engine import words
from engine.measure.accuracy.metrics import in_decibels
from engine.report import LayerChoice, Report, Trial

MOST_ROWS = 40


@dataclass(frozen=True)
class MixedRow:
    layer: str
    operator: str
    kept_float: bool
    noise: str
    noise_percent: float  #: of the noisiest layer
    gained: str
    gain_percent: float  #: of the layer that gains most; 0 where 8 bits cost time


@dataclass(frozen=True)
class Mixed:
    trial: str
    rows: list[MixedRow]
    more: int  #: layers that are not shown
    by_noise: bool  #: false where all layers in 8 bits kept the limit: then noise is not measured, only time decides


def mixed(report: Report) -> Mixed | None:
    """Of the offered file; None where it does not mix, or the original is offered."""
    chosen = (trial for trial in report.trials if trial.id == report.verdict.chosen)
    return next((_of(trial) for trial in chosen if trial.layers), None)


def _of(trial: Trial) -> Mixed:
    noise = max((layer.noise_share or 0 for layer in trial.layers), default=0)
    gain = max((layer.gained_ms or 0 for layer in trial.layers), default=0)
    rows = [_row(layer, noise or 1, max(gain, 1e-9)) for layer in trial.layers[:MOST_ROWS]]
    return Mixed(trial.id, rows, max(len(trial.layers) - MOST_ROWS, 0), by_noise=noise > 0)


def _row(layer: LayerChoice, noisiest: float, most_gained: float) -> MixedRow:
    noise_db = in_decibels(layer.noise_share) if layer.noise_share else None
    return MixedRow(
        layer=layer.layer,
        operator=layer.operator,
        kept_float=layer.kept_float,
        noise=words.NOTHING if noise_db is None else f"{words.digits(noise_db)} dB",
        noise_percent=round(100 * (layer.noise_share or 0) / noisiest, 2),
        gained=words.milliseconds(layer.gained_ms),
        gain_percent=round(100 * max(layer.gained_ms or 0, 0) / most_gained, 2),
    )

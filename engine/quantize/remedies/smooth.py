"""Smoothing: outliers of activations, which sit in a few channels, moved into the weights that they meet.

    x W = (x / s) · (s W)          s_j = max|x_j|^α / max|W_j|^(1 - α)

One scale has to serve all of x, so that a channel with a hundred times the values of the others leaves those a
hundredth of the levels; weights have room for it. 1/s goes into the norm, layer or product that x comes from. Where
something else reads x too it costs a Mul of its own, and is worth that only if much is to be gained.

Which α pays, and whether any does, is told for each place from the noise of rounding that is to be expected:

    (max|x| / s)² · Σ W_jk² s²  +  Σ_k (max_j |W_jk| s_j)² · Σ_j E[x_j²] / s_j²

Pays in transformers, whose norms bring forth such channels.
Xiao et al. 2023, “SmoothQuant: Accurate and efficient post-training quantization for large language models”.
"""

from collections.abc import Mapping

import numpy as np
import onnx

from engine.quantize.calibrate import Calibrator
from engine.quantize.remedies.channels import Channels, Place

STRENGTHS = (0.25, 0.5, 0.75)
WORTH_IT = 0.8  #: expected noise, as a share of what it was, up to which the weights are changed
WORTH_A_NODE = 0.2  #: the same, up to which a Mul is put in
PEAK_OVER_RMS = 4.0  #: of one channel, roughly: of 10,000 normal values the largest is 4 standard deviations
SMALLEST_SHARE = 1e-3  #: of the largest peak or weight; channels below count as if they had so much

Peaks = Mapping[str, np.ndarray]


def channel_peaks(calibrator: Calibrator) -> dict[str, np.ndarray]:
    """Largest absolute value of each channel of the tensors that matrix products with constant weights read."""
    channels = Channels(calibrator.model)
    peaks = {place.name: np.zeros(place.inputs) for place in channels.places() if _is_smoothable(place)}
    draft = channels.draft
    rows = [draft.as_rows(draft.add("Abs", [name], f"{name}_absolute"), len(peak)) for name, peak in peaks.items()]
    outputs = [draft.reduce("ReduceMax", name, [0]) for name in rows]
    for values in calibrator.run(draft.giving(outputs), outputs) if outputs else ():
        for name, value in zip(peaks, values, strict=True):
            peaks[name] = np.maximum(peaks[name], value)
    return peaks


def smoothed(model: onnx.ModelProto, peaks: Peaks) -> onnx.ModelProto | None:
    """A copy with the same outputs and fewer outliers; None where that promises nothing. Peaks are this model's."""
    channels = Channels(model)
    moved = 0
    for place in channels.places():
        if not _is_smoothable(place) or not np.isfinite(peaks.get(place.name, np.inf)).all():
            continue
        free = place.alone and place.source is not None and place.channels == place.inputs
        factors = _best(peaks[place.name], _weight(place, channels), WORTH_IT if free else WORTH_A_NODE)
        if factors is not None:
            channels.rescale(place, factors) if free else channels.divide_in_front(place, factors)
            moved += 1
    return channels.draft.finished() if moved else None


def _is_smoothable(place: Place) -> bool:
    return all(layer.op_type != "Conv" for layer in place.readers)


def _weight(place: Place, channels: Channels) -> np.ndarray:
    """Absolute weights of all layers that read the tensor: (outputs, inputs)."""
    return np.concatenate([channels.kernel(layer)[0] for layer in place.readers])


def _best(peak: np.ndarray, weight: np.ndarray, worth: float) -> np.ndarray | None:
    """The factors of which the least noise is to be expected, None where it is more than `worth` of what it was."""
    peak = np.maximum(peak, peak.max(initial=0) * SMALLEST_SHARE)
    largest = weight.max(axis=0)
    largest = np.maximum(largest, largest.max(initial=0) * SMALLEST_SHARE)
    if not peak.any() or not largest.any():
        return None
    candidates = [peak**strength / largest ** (1 - strength) for strength in STRENGTHS]
    noises = [_noise(peak / factors, weight * factors) for factors in candidates]
    best = int(np.argmin(noises))
    return candidates[best] if noises[best] <= worth * _noise(peak, weight) else None


def _noise(peak: np.ndarray, weight: np.ndarray) -> float:
    """Noise power to be expected behind a layer, in squared steps of rounding."""
    of_inputs = peak.max() ** 2 * np.square(weight).sum()
    of_weights = np.square(weight.max(axis=1)).sum() * np.square(peak / PEAK_OVER_RMS).sum()
    return float(of_inputs + of_weights)

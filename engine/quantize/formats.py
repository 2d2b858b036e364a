"""The ways to write numbers down in 8 bits that are worth a look, and their names for people."""

import itertools

from engine.recipe import (
    Activations,
    Calibration,
    EightBits,
    Layout,
    QuantizeDynamic,
    QuantizeStatic,
    Range,
    Scales,
    Step,
)

#: the first one is what formats are compared with, since it seldom fails
CALIBRATIONS = (Calibration.PERCENTILE, Calibration.MINMAX, Calibration.ENTROPY, Calibration.MSE)
REMEDIES = {
    "equalize": "equalized",
    "smooth": "smoothed",
    "fit_rounding": "rounded by least squares",
    "correct_bias": "biases corrected",
}


def formats(step: QuantizeStatic, *, saturates: bool) -> list[QuantizeStatic]:
    """The step with every `auto` of its format decided, the most promising first, and all else at its plainest."""
    signs = [Activations.UNSIGNED, Activations.SIGNED] if step.activations is Activations.AUTO else [step.activations]
    scales = [Scales.PER_CHANNEL, Scales.PER_TENSOR] if step.weight_scales is Scales.AUTO else [step.weight_scales]
    chosen = plainest(step)
    return [
        chosen.model_copy(update={"activations": sign, "weight_scales": scale, "weight_range": weight_range})
        for sign, scale in itertools.product(signs, scales)
        for weight_range in _ranges(step, sign, scale, saturates=saturates)
    ]


def _ranges(step: QuantizeStatic, sign: Activations, scale: Scales, *, saturates: bool) -> list[Range]:
    """Seven bits help where sums saturate; they ruin a weight with a single scale, and signed sums do without."""
    if step.weight_range is not Range.AUTO:
        return [step.weight_range]
    helpful = saturates and scale is Scales.PER_CHANNEL and sign is Activations.UNSIGNED
    return [Range.REDUCED, Range.FULL] if helpful else [Range.FULL]


def plainest(step: QuantizeStatic) -> QuantizeStatic:
    """Without anything that is tried only once the format is known."""
    update: dict[str, object] = {remedy: getattr(step, remedy) is True for remedy in REMEDIES}
    update["mixed"] = False
    if step.layout is Layout.AUTO:
        update["layout"] = Layout.QDQ
    if step.calibration is Calibration.AUTO:
        update["calibration"] = CALIBRATIONS[0]
    return step.model_copy(update=update)


def may_saturate(step: Step) -> bool:
    """Whether sums of the file may saturate on x86 CPUs without VNNI: those of unsigned inputs and full weights.

    In Q/DQ signed activations are no exception: ONNX Runtime makes unsigned ones of them on x86.
    """
    if not isinstance(step, EightBits | QuantizeDynamic) or step.weight_range is Range.REDUCED:
        return False
    is_signed = step.activations is Activations.SIGNED
    return not (is_signed and isinstance(step, QuantizeStatic) and step.layout is Layout.QOPERATOR)


def label(step: QuantizeStatic, floats: int = 0) -> str:
    """The options in words; `floats` is the number of layers that were found to be better left in float."""
    learned = f"{step.percentile:g} % percentile" if step.calibration is Calibration.PERCENTILE else _learned(step)
    parts = [
        f"static int8, {'symmetric ' * step.symmetric}{step.activations.value} activations",
        ("7-bit" if step.weight_range is Range.REDUCED else "8-bit")
        + " weights"
        + " with one scale per tensor" * (step.weight_scales is Scales.PER_TENSOR),
        f"{learned} ranges",
        *(words for remedy, words in REMEDIES.items() if getattr(step, remedy) is True),
        *["QOperator"] * (step.layout is Layout.QOPERATOR),
        *[f"{floats} layer{'s' * (floats > 1)} in float"] * bool(floats),
    ]
    return ", ".join(parts)


def _learned(step: QuantizeStatic) -> str:
    return {Calibration.MINMAX: "min-max", Calibration.ENTROPY: "entropy", Calibration.MSE: "MSE"}[step.calibration]

"""Which formats are worth a look on which CPU, and what they are called."""

from engine.quantize.formats import formats, label
from engine.recipe import Activations, Calibration, Layout, QuantizeStatic, Range, Scales


def test_where_sums_saturate_seven_bits_come_first_but_only_where_they_help() -> None:
    looked_at = formats(QuantizeStatic(), saturates=True)
    reduced = [step for step in looked_at if step.weight_range is Range.REDUCED]
    assert looked_at[0] in reduced
    assert {(step.activations, step.weight_scales) for step in reduced} == {(Activations.UNSIGNED, Scales.PER_CHANNEL)}
    assert {step.activations for step in looked_at} == {Activations.UNSIGNED, Activations.SIGNED}
    assert {step.weight_scales for step in looked_at} == {Scales.PER_CHANNEL, Scales.PER_TENSOR}


def test_elsewhere_weights_use_all_bits() -> None:
    assert {step.weight_range for step in formats(QuantizeStatic(), saturates=False)} == {Range.FULL}


def test_nothing_is_left_to_choose() -> None:
    for step in formats(QuantizeStatic(), saturates=True):
        assert "auto" not in set(map(str, step.model_dump(mode="json").values()))


def test_what_is_asked_for_is_the_only_format() -> None:
    asked = QuantizeStatic(
        activations=Activations.SIGNED,
        weight_range=Range.REDUCED,
        weight_scales=Scales.PER_TENSOR,
        calibration=Calibration.MSE,
        layout=Layout.QOPERATOR,
        correct_bias=True,
    )
    (step,) = formats(asked, saturates=False)
    assert step == asked.model_copy(update={"equalize": False, "smooth": False, "fit_rounding": False, "mixed": False})
    assert label(step, floats=2) == (
        "static int8, signed activations, 7-bit weights with one scale per tensor, MSE ranges, biases corrected, "
        "QOperator, 2 layers in float"
    )

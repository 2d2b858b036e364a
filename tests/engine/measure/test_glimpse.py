"""A quick look at files beside the original."""

from pathlib import Path

from engine.measure.glimpse import Glimpse
from engine.recipe import Target
from tests.engine.steps.outcome import made_up
from tests.models import small_cnn


def test_a_file_that_cannot_be_timed_is_left_out_and_the_others_are_not(tmp_path: Path) -> None:
    original = small_cnn().save(tmp_path / "model.onnx")
    sound, broken = small_cnn().save(tmp_path / "sound.onnx"), small_cnn().save(tmp_path / "broken.onnx")
    glimpse = Glimpse(original, made_up(original, 8), Target(), tmp_path / "glimpse")
    assert glimpse.fidelity(broken) > 100
    broken.unlink()
    times = glimpse.times([broken, sound])
    assert times[0] == 0 and times[1] > 0
    assert set(glimpse.failures) == {broken}
    assert glimpse.words(sound).endswith("on 8 calibration samples; another format went on.")
    assert glimpse.words(sound)[0].isdigit()  # what the report's state says is not said again

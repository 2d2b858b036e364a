"""Layers that are replaced, then taught together, in a whole job on a real model, confined as a service runs it."""

from pathlib import Path

import pytest

from engine.protocol import Finished
from engine.recipe import Budget, Distill, Move, Recipe, ReplaceLayers
from engine.report import TrialState
from tests.engine.attempts import DIGITS, optimize


@pytest.mark.timeout(900)  # a whole job, on a machine that may be busy
def test_depthwise_pairs_are_taught_alone_then_together_and_the_report_tells(tmp_path: Path) -> None:
    recipe = Recipe(
        steps=[
            ReplaceLayers(moves=(Move.DEPTHWISE,), time_share=0.01, samples=96, steps=4),
            Distill(steps=60, batch_size=32, learning_rate=0.003),
        ],
        budget=Budget(minutes=20),
    )
    ended = optimize(
        tmp_path / "attempt",
        recipe,
        model=DIGITS / "model.onnx",
        calibration=DIGITS / "calibration.npz",
        evaluation=DIGITS / "test.npz",
        confined=True,
    )
    assert isinstance(ended.last, Finished), ended.errors
    replaced, together = ended.report.trials
    assert replaced.state is not TrialState.FAILED, replaced.reason
    assert replaced.replacements and any(one.chosen for one in replaced.replacements.layers)
    drops = [trial.comparison.accuracy_drop for trial in (replaced, together) if trial.comparison]
    assert drops[0] and drops[1] and drops[1].value < drops[0].value
    assert "replacing" in ended.stages
    assert "What took whose place" in (ended.checkpoint / "report.html").read_text()

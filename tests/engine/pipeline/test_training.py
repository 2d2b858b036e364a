"""Steps that train, in a whole job on a real model, confined as a service runs it."""

import pytest

from engine.protocol import Finished
from engine.recipe import Budget, Distill, Importance, Limits, PruneChannels, Recipe
from engine.report import Trial, TrialState
from tests.engine.attempts import DIGITS, Ended, optimize

pytestmark = pytest.mark.timeout(900)  # a whole job, on a machine that may be busy
PRUNING = PruneChannels(ratio=0.5, importance=Importance.MAGNITUDE, reconstruct=False)


@pytest.fixture(scope="module")
def recovered(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Half of the channels leave without any care, and the rest learns what they did."""
    recipe = Recipe(
        steps=[PRUNING, Distill(steps=60, batch_size=32, learning_rate=0.003)],
        limits=Limits(accuracy_drop=0.05),
        budget=Budget(minutes=20),
    )
    return optimize(
        tmp_path_factory.mktemp("training") / "attempt",
        recipe,
        model=DIGITS / "model.onnx",
        calibration=DIGITS / "calibration.npz",
        evaluation=DIGITS / "test.npz",
        confined=True,
    )


def test_what_pruning_took_beyond_the_limit_comes_back(recovered: Ended) -> None:
    assert isinstance(recovered.last, Finished), recovered.errors
    pruned, distilled = recovered.report.trials
    assert pruned.state is TrialState.REJECTED and "the limit is 5 points" in pruned.reason
    assert distilled.steps[:1] == pruned.steps
    lost, left = (drop_of(trial) for trial in (pruned, distilled))
    assert lost > 0.3 and left < lost / 2


def drop_of(trial: Trial) -> float:
    assert trial.comparison and trial.comparison.accuracy_drop
    return trial.comparison.accuracy_drop.value


def test_a_training_is_told_of_and_reported(recovered: Ended) -> None:
    assert "training" in recovered.stages
    training = recovered.report.trials[1].training
    assert training is not None and training.steps == 60
    assert training.curve[-1].held_out < training.curve[0].held_out / 4
    assert "How it learned" in (recovered.checkpoint / "report.html").read_text()

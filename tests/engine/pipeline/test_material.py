"""Which samples a job learns from and which it is judged by."""

from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataRejected
from engine.pipeline.material import FEWEST_TO_JUDGE, FEWEST_TO_SEARCH, FEWEST_TO_SPLIT, gather, shuffled, some
from engine.pipeline.trials import UNLIMITED_LOSS
from engine.protocol import EngineRequest, Work
from engine.signature import Signature
from tests.models import small_cnn

SIGNATURE = Signature.of(small_cnn().model())


def dataset(folder: Path, name: str, count: int) -> str:
    images = np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1) * np.ones((1, 3, 16, 16), np.float32)
    np.savez(folder / name, image=images, labels=np.arange(count) % 10)
    return f"{name}.npz"


def request(calibration: str | None = None, evaluation: str | None = None) -> EngineRequest:
    return EngineRequest(work=Work.OPTIMIZE, calibration=calibration, evaluation=evaluation)


def test_one_set_is_split_by_the_seed_without_overlap(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "all", 60))
    material = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=3)
    learned, judged = set(material.calibration.rows.tolist()), set(material.evaluation.rows.tolist())
    assert learned and judged and not learned & judged and len(learned | judged) == 60
    again = gather(asked, tmp_path, tmp_path / "again", SIGNATURE, seed=3)
    assert again.calibration.rows.tolist() == material.calibration.rows.tolist()


def test_where_nothing_is_learned_one_set_judges_as_a_whole(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "all", FEWEST_TO_JUDGE))
    material = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=3, only_to_judge=True)
    assert len(material.evaluation) == FEWEST_TO_JUDGE and material.unseen is None


def test_two_sets_are_taken_as_they_are(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "learn", 40), dataset(tmp_path, "judge", 120))
    material = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=0)
    assert (len(material.calibration), len(material.evaluation)) == (40, 120)
    assert material.warnings == []


def test_few_samples_are_warned_of(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "learn", 5), dataset(tmp_path, "judge", 30))
    material = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=0)
    assert [warning.split(":")[0] for warning in material.warnings] == [
        "Only 5 calibration samples",
        "Only 30 evaluation samples",
    ]


@pytest.mark.parametrize(("learned", "judged", "minimum"), [(5, 29, 30), (100, 1, 30), (44, None, 45), (3, None, 45)])
def test_samples_too_few_to_judge_by_are_refused_with_how_many_are_needed(
    tmp_path: Path, learned: int, judged: int | None, minimum: int
) -> None:
    asked = request(dataset(tmp_path, "learn", learned), dataset(tmp_path, "judge", judged) if judged else None)
    with pytest.raises(DataRejected) as refusal:
        gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=0)
    assert refusal.value.code == "too_few_samples"
    assert f"has {judged or learned} samples, and at least {minimum} are needed" in refusal.value.detail
    assert "at least 45 samples" in refusal.value.remedy and "at least 30" in refusal.value.remedy


def test_the_fewest_samples_are_enough_and_can_rule_out_a_tenth(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "all", FEWEST_TO_SPLIT))
    material = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=0)
    assert len(material.evaluation) == FEWEST_TO_JUDGE
    assert 3 / len(material.evaluation) <= UNLIMITED_LOSS < 3 / (len(material.evaluation) - 1)


def test_samples_of_a_model_with_a_fixed_batch_count_in_whole_runs(tmp_path: Path) -> None:
    batches_of_eight = small_cnn().model()
    batches_of_eight.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    asked = request(dataset(tmp_path, "learn", 8), dataset(tmp_path, "judge", 31))
    with pytest.raises(DataRejected, match="has 24 samples \\(in whole runs of 8\\)"):
        gather(asked, tmp_path, tmp_path / "scratch", Signature.of(batches_of_eight), seed=0)


def test_a_search_is_judged_by_samples_that_it_never_saw(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "learn", 40), dataset(tmp_path, "judge", 120))
    material = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=0, for_search=True)
    assert material.unseen is not None
    searched, unseen = material.evaluation.rows.tolist(), material.unseen.rows.tolist()
    assert (len(searched), len(unseen)) == (40, 80) and sorted([*searched, *unseen]) == list(range(120))
    again = gather(asked, tmp_path, tmp_path / "again", SIGNATURE, seed=0, for_search=True)
    assert again.evaluation.rows.tolist() == searched == sorted(searched)


def test_one_set_is_split_into_three_parts_for_a_search(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "all", 900))
    material = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=0, for_training=True, for_search=True)
    assert material.unseen is not None
    parts = [set(part.rows.tolist()) for part in (material.calibration, material.evaluation, material.unseen)]
    assert [len(part) for part in parts] == [600, 100, 200] and len(set.union(*parts)) == 900


def test_samples_too_few_to_teach_by_are_rather_judged_by(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "all", 600))
    material = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=0, for_training=True, for_search=True)
    assert len(material.calibration) == 200


def test_too_few_samples_to_keep_some_from_a_search_are_told_of(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "learn", 40), dataset(tmp_path, "judge", FEWEST_TO_SEARCH - 1))
    material = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=0, for_search=True)
    assert material.unseen is None and len(material.evaluation) == FEWEST_TO_SEARCH - 1
    assert "may look better than it is" in material.warnings[-1]


def test_without_data_inputs_are_made_up_and_that_is_said(tmp_path: Path) -> None:
    material = gather(request(), tmp_path, tmp_path / "scratch", SIGNATURE, seed=0)
    assert material.source == "synthetic" and "No data was uploaded" in material.warnings[0]


def test_the_first_samples_of_a_sorted_set_are_not_all_of_one_kind(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "learn", 200), dataset(tmp_path, "judge", 100))
    material = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=0)
    assert max(material.calibration.first(20).rows) > 100


def test_a_draw_keeps_its_order_on_disk_and_follows_the_seed(tmp_path: Path) -> None:
    asked = request(dataset(tmp_path, "learn", 20), dataset(tmp_path, "judge", 100))
    samples = gather(asked, tmp_path, tmp_path / "scratch", SIGNATURE, seed=0).evaluation
    drawn = some(samples, 10, seed=1).rows.tolist()
    assert drawn == sorted(drawn) and len(drawn) == 10
    assert drawn == some(samples, 10, seed=1).rows.tolist() != some(samples, 10, seed=2).rows.tolist()
    assert sorted(shuffled(samples, 1).rows) == samples.rows.tolist()

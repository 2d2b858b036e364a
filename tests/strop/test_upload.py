import random
from pathlib import Path

import numpy as np
import pytest

from strop import InvalidRequest, NotFound, Strop
from tests.service import RunningService
from tests.strop.servers import cut_at_random


def test_a_model_is_inspected_before_it_is_given_back(strop: Strop, model: Path) -> None:
    file = strop.upload_model(model)
    assert file.state == "ready"
    assert file.summary is not None and file.summary["opset"] == 17
    assert strop.inspect(file).summary == file.summary


def test_progress_counts_every_byte(strop: Strop, tmp_path: Path) -> None:
    path, seen = tmp_path / "data.npz", []
    np.savez(path, x=np.zeros(400_000))
    strop.upload_dataset(path, on_progress=lambda done, total: seen.append((done, total)))
    size = path.stat().st_size
    assert seen[-1] == (size, size)
    assert len(seen) > 2


def test_arrays_are_uploaded_as_they_are(strop: Strop, tmp_path: Path) -> None:
    arrays = {"x": np.arange(8, dtype=np.float32).reshape(2, 4), "labels": np.array([0, 1])}
    file = strop.upload_dataset(arrays)
    with np.load(strop.download_file(file.id, tmp_path / "back.npz")) as back:
        assert {name: back[name].tolist() for name in back} == {name: each.tolist() for name, each in arrays.items()}


def test_what_is_no_model_is_refused_with_a_reason(strop: Strop, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"\x80\x04\x95 a pickle")
    with pytest.raises(InvalidRequest) as refusal:
        strop.upload_model(path)
    assert refusal.value.problem.remedy


def test_an_id_is_used_as_it_is_and_not_uploaded_again(strop: Strop, model: Path) -> None:
    file = strop.upload_model(model)
    job = strop.optimize(file.id, steps=["simplify_graph"])
    assert job.body.model == file.id


def test_a_file_can_be_forgotten(strop: Strop, model: Path) -> None:
    file = strop.upload_model(model)
    strop.delete_file(file.id)
    with pytest.raises(NotFound):
        strop.file(file.id)


def test_what_was_uploaded_is_listed_the_newest_first(strop: Strop, model: Path) -> None:
    file = strop.upload_model(model, name="the newest")
    assert next(strop.models()).name == "the newest"
    assert file.id == next(strop.models()).id


@pytest.mark.parametrize("seed", range(20))
def test_r36_a_download_cut_at_random_points_is_resumed_to_the_same_bytes(
    service: RunningService, strop: Strop, tmp_path: Path, seed: int
) -> None:
    sent = tmp_path / "data.npz"
    np.savez(sent, x=np.frombuffer(random.Random(seed).randbytes(2 << 20), np.uint8))
    file = strop.upload_dataset(sent)
    with cut_at_random(service.url, seed, longest=1_000_000, cuts=2) as url, Strop(url) as shaky:
        received = shaky.download_file(file.id, tmp_path / "received.npz")
    assert received.read_bytes() == sent.read_bytes()


def test_steps_and_goal_exclude_each_other(strop: Strop) -> None:
    with pytest.raises(ValueError, match="either steps or a goal"):
        strop.optimize("mdl_1", steps=["simplify_graph"], goal="latency")


def test_each_wrong_option_is_named(strop: Strop, model: Path) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        strop.optimize(model, steps=[{"kind": "quantize_static", "percentile": 3}], threads=0)
    assert {each["pointer"] for each in refusal.value.problem.errors} == {
        "/steps/0/percentile",
        "/target/threads",
    }


def test_a_wrong_recipe_is_refused_before_the_model_is_sent(strop: Strop, tmp_path: Path) -> None:
    unsent = tmp_path / "model.onnx"  # is not there: to read it would fail in another way
    with pytest.raises(InvalidRequest, match="/goal/minimize"):
        strop.optimize(unsent, goal="noise")


def test_a_checked_recipe_is_complete(strop: Strop) -> None:
    request = {"model": "mdl_1", "goal": {"minimize": "size"}, "name": "a whole job request"}
    assert strop.check(request)["budget"] == {"minutes": 20.0}


def test_the_catalogue_names_the_steps(strop: Strop) -> None:
    assert {"simplify_graph", "quantize_static", "quantize_dynamic"} <= {step["kind"] for step in strop.steps()}

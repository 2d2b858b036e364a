"""Models whose weights one file cannot hold: what a job makes of them, with 64 KiB in the place of 2 GiB."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from engine import beside
from engine.graph import inlined, load, load_structure, save
from engine.protocol import EngineRequest, Finished, Work
from engine.recipe import (
    Budget,
    ConvertFloat16,
    Distill,
    Layout,
    Limits,
    PruneChannels,
    QuantizeDynamic,
    QuantizeWeights,
    Recipe,
    SimplifyGraph,
    Step,
    WeightLayout,
)
from engine.report import TrialState
from tests.engine import small_files
from tests.engine.attempts import Ended, prepare, run
from tests.engine.steps.outcome import FIXED
from tests.models import mlp, transformer

SMALL_FILES = [sys.executable, small_files.__file__]
PAIR = 2


def bundle(folder: Path, net_width: int = 256) -> Path:
    """A zip of a model and of its weights; they are larger than one file holds in any of 8 bits."""
    folder.mkdir(parents=True)
    model = mlp(width=net_width).model(opset=11)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    model.graph.node.append(onnx.helper.make_node("Identity", [relu.input[0]], ["same"]))
    model.graph.node.insert(list(model.graph.node).index(relu), model.graph.node.pop())
    relu.input[0] = "same"
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, location="all.bin", size_threshold=0)
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        for name in ("model.onnx", "all.bin"):
            archive.write(folder / name, name)
    return folder / "bundle.zip"


def ended(folder: Path, *steps: Step) -> Ended:
    recipe = Recipe(steps=list(steps), limits=Limits(accuracy_drop=0.5), budget=Budget(minutes=1))
    request = EngineRequest(work=Work.OPTIMIZE, recipe=recipe, model="inputs/model.onnx")
    attempt = prepare(folder / "attempt", request, **{"model.onnx": bundle(folder / "upload")})
    return run(attempt, command=SMALL_FILES)


def outputs(path: Path, features: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(str(path)).run(None, {"features": features})[0])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "LARGEST_BYTES", small_files.HELD_BYTES)


STEPS = [
    SimplifyGraph(),
    QuantizeDynamic(),
    QuantizeWeights(layout=WeightLayout.UNPACK, bits=8),
    ConvertFloat16(),
    FIXED.model_copy(update={"layout": Layout.QDQ}),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.kind)
def test_a_step_makes_of_a_large_model_what_it_makes_of_a_small_one(step: Step, tmp_path: Path) -> None:
    done = ended(tmp_path, step)
    assert isinstance(done.last, Finished), done.errors
    row = done.report.trials[0]
    assert row.state in (TrialState.KEPT, TrialState.REJECTED, TrialState.DOMINATED), row.reason
    assert row.figures and row.figures.size_bytes > 0
    assert done.report.profile_before and done.report.baseline.size_bytes > 270_000


def test_what_a_job_offers_loads_where_it_lies(tmp_path: Path) -> None:
    done = ended(tmp_path, PruneChannels(), Distill(minutes=0.05), ConvertFloat16())
    assert isinstance(done.last, Finished), done.errors
    features = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    models = [*done.checkpoint.glob("*.onnx"), *done.checkpoint.glob("candidates/*.onnx")]
    apart = 0
    for path in models:
        assert np.isfinite(outputs(path, features)).all()
        beside_it = [other for other in path.parent.iterdir() if other.name.startswith(f"{path.name}.")]
        apart += len(beside_it)
        assert len(beside_it) <= 1
    assert apart, "at least one of them is larger than one file holds"


def test_inspection_rewrites_only_what_one_file_can_hold(tmp_path: Path) -> None:
    request = EngineRequest(work=Work.INSPECT_MODEL, model="inputs/upload")
    attempt = prepare(tmp_path / "attempt", request, upload=bundle(tmp_path / "upload"))
    small, large = run(attempt), None
    attempt = prepare(tmp_path / "again", request, upload=tmp_path / "upload" / "bundle.zip")
    large = run(attempt, command=SMALL_FILES)
    assert isinstance(small.last, Finished) and isinstance(large.last, Finished), large.errors
    assert small.last.canonical and not large.last.canonical
    assert small.last.model and large.last.model
    assert large.last.model.steps == small.last.model.steps
    assert large.last.model.parameters == small.last.model.parameters
    assert abs(large.last.model.size_bytes - small.last.model.size_bytes) < 20_000


@pytest.mark.usefixtures("small")
def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    model = transformer().model()
    path = save(model, tmp_path / "model.onnx")
    assert path.stat().st_size < beside.size_bytes(path) / 2
    assert sorted(load(path).graph.initializer, key=_name) == sorted(model.graph.initializer, key=_name)
    assert all(not weight.external_data for weight in model.graph.initializer), "it is still whole in memory"
    structure = load_structure(path)
    assert [tuple(w.dims) for w in structure.graph.initializer] == [tuple(w.dims) for w in load(path).graph.initializer]
    onnxruntime.InferenceSession(str(path))
    save(mlp(width=8).model(), path)
    assert len(list(tmp_path.iterdir())) == 1, "the weights of the model that was there before are gone"


@pytest.mark.usefixtures("small")
def test_functions_are_written_out_of_a_model_that_protobuf_could_not_hand_over(tmp_path: Path) -> None:
    model = mlp(width=256).model()
    body = [onnx.helper.make_node("Relu", ["x"], ["y"])]
    imports = [onnx.helper.make_opsetid("", 17)]
    model.functions.append(onnx.helper.make_function("own", "Act", ["x"], ["y"], body, imports))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "Act", "own"
    plain = inlined(model)
    assert not plain.functions
    assert sorted(plain.graph.initializer, key=_name) == sorted(model.graph.initializer, key=_name)


@pytest.mark.usefixtures("small")
def test_two_published_models_in_one_folder_keep_their_own_weights(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    for width, mark in ((256, "a" * 64), (512, "b" * 64)):
        source = save(mlp(width=width).model(), tmp_path / f"{width}.onnx")
        folder = tmp_path / str(width)
        folder.mkdir()
        beside.publish(source, folder / "model.onnx", mark)
        (_, data) = sorted(folder.iterdir())
        data.rename(tmp_path / data.name)
        (folder / "model.onnx").rename(tmp_path / f"published-{width}.onnx")
    for width in (256, 512):
        published = outputs(tmp_path / f"published-{width}.onnx", features)
        assert np.array_equal(published, outputs(tmp_path / f"{width}.onnx", features))


def _name(tensor: onnx.TensorProto) -> str:
    return tensor.name

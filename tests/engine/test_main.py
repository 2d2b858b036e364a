"""The child's entry: what it says on which stream, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.protocol import EVENT, Confinement, EngineRequest, Failed, Finished, Stage, Work
from engine.recipe import Recipe
from tests.engine.attempts import DIGITS, prepare, run
from tests.models import Net, small_cnn

MODEL = DIGITS / "model.onnx"


def inspect(folder: Path, model: Path, confinement: Confinement | None = None) -> Path:
    request = EngineRequest(work=Work.INSPECT_MODEL, model="inputs/model", confinement=confinement)
    return prepare(folder, request, model=model)


def test_the_first_event_says_how_well_it_is_confined(tmp_path: Path) -> None:
    ended = run(inspect(tmp_path / "attempt", MODEL, Confinement()))
    assert isinstance(ended.events[0], Stage)
    assert ended.events[0].sandbox in {"rlimits", "seccomp", "landlock", "landlock+seccomp"}


def test_without_a_confinement_it_says_none(tmp_path: Path) -> None:
    ended = run(inspect(tmp_path / "attempt", MODEL))
    assert isinstance(ended.events[0], Stage) and ended.events[0].sandbox == "none"


def test_an_inspection_ends_with_the_summary(tmp_path: Path) -> None:
    ended = run(inspect(tmp_path / "attempt", small_cnn().save(tmp_path / "model.onnx"), Confinement()))
    assert ended.returncode == 0 and isinstance(ended.last, Finished)
    assert ended.last.model and ended.last.model.inputs[0].name == "image"


def test_a_data_set_is_inspected(tmp_path: Path) -> None:
    request = EngineRequest(work=Work.INSPECT_DATASET, calibration="inputs/upload", confinement=Confinement())
    ended = run(prepare(tmp_path / "attempt", request, upload=DIGITS / "test.npz"))
    assert isinstance(ended.last, Finished) and ended.last.dataset and ended.last.dataset.samples == 797


def test_a_refusal_is_the_last_event_and_exit_status_1(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model at all" * 100)
    ended = run(inspect(tmp_path / "attempt", tmp_path / "model.onnx", Confinement()))
    assert ended.returncode == 1
    assert isinstance(ended.last, Failed) and ended.last.fault == "user" and ended.last.remedy


def test_what_nobody_foresaw_is_a_traceback_and_exit_status_70(tmp_path: Path) -> None:
    folder = inspect(tmp_path / "attempt", MODEL)
    (folder / "request.json").write_text('{"work": "dance"}')
    ended = run(folder)
    assert ended.returncode == 70 and ended.events == []
    assert "Traceback" in ended.errors


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((300, 1000)))
    walls = Confinement(file_bytes=100_000)
    request = EngineRequest(work=Work.INSPECT_DATASET, calibration="inputs/upload", confinement=walls)
    ended = run(prepare(tmp_path / "attempt", request, upload=tmp_path / "data.npz"))
    assert isinstance(ended.last, Failed) and ended.last.code == "out_of_disk" and ended.last.fault == "service"


def test_the_self_test_tells_what_was_denied(tmp_path: Path) -> None:
    request = EngineRequest(work=Work.SELF_TEST, confinement=Confinement(memory_bytes=8 << 30, file_bytes=1 << 20))
    ended = run(prepare(tmp_path / "attempt", request))
    assert isinstance(ended.last, Finished) and ended.last.probes
    assert ended.last.probes["exceed_memory"] and ended.last.probes["exceed_file_size"]


def test_it_works_in_its_own_folder_and_leaves_the_inputs_alone(tmp_path: Path) -> None:
    folder = inspect(tmp_path / "attempt", MODEL, Confinement())
    before = (folder / "inputs" / "model").read_bytes()
    run(folder)
    assert (folder / "inputs" / "model").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"inputs", "work", "request.json"}


def test_what_a_library_prints_does_not_reach_the_events() -> None:
    script = """
import os
from engine.events import claim_standard_output
from engine.protocol import Stage
emit = claim_standard_output()
os.write(1, b"printed by C code")
print("printed by Python", flush=True)
emit(Stage(stage="baseline"))
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, timeout=60, check=True)
    assert [EVENT.validate_json(line) for line in done.stdout.splitlines()] == [Stage(stage="baseline")]
    assert b"printed by C code" in done.stderr and b"printed by Python" in done.stderr


def test_it_never_imports_torch(tmp_path: Path) -> None:
    folder = inspect(tmp_path / "attempt", MODEL)
    script = f"import runpy, sys; sys.argv = ['engine', {str(folder)!r}]\n"
    script += "try: runpy.run_module('engine', run_name='__main__')\n"
    script += "finally: sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_it_needs_nothing_from_the_environment(tmp_path: Path) -> None:
    folder = inspect(tmp_path / "attempt", MODEL, Confinement())
    command = [sys.executable, "-I", "-m", "engine", str(folder)]
    done = subprocess.run(command, capture_output=True, env={"PATH": os.defpath}, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mebibytes", [1, 100, 300])
def test_a_small_memory_limit_leaves_room_for_the_libraries_to_load(tmp_path: Path, mebibytes: int) -> None:
    """OpenBLAS tries forever, or ends the process, where address space ends while it loads."""
    recipe = Recipe.model_validate({"steps": [{"kind": "simplify_graph"}]})
    walls = Confinement(memory_bytes=mebibytes << 20)
    request = EngineRequest(work=Work.OPTIMIZE, recipe=recipe, model="inputs/model", confinement=walls)
    (tmp_path / "model.onnx").write_bytes(b"not a model at all" * 100)
    ended = run(prepare(tmp_path / "attempt", request, model=tmp_path / "model.onnx"), timeout=30)
    assert isinstance(ended.last, Failed) and ended.last.code == "model_not_onnx"


def test_samples_that_need_more_memory_than_there_is_are_told_as_that(tmp_path: Path) -> None:
    """A run of the original asks for 8 GiB at once, above the limit and its headroom."""
    net = Net()
    x = net.input("x", ["batch", 1 << 20])
    wide = net.op("MatMul", net.op("Reshape", x, net.constant(np.array([-1, 1]))), net.weight(1, 2048))
    net.op("ReduceMean", wide, name="y", keepdims=0, axes=[0, 1])
    model = net.output("y", []).save(tmp_path / "model.onnx")
    walls = Confinement(memory_bytes=1 << 30)
    recipe = Recipe.model_validate({"steps": [{"kind": "simplify_graph"}]})
    request = EngineRequest(work=Work.OPTIMIZE, recipe=recipe, model="inputs/model", confinement=walls)
    ended = run(prepare(tmp_path / "attempt", request, model=model), timeout=60)
    assert isinstance(ended.last, Failed) and ended.last.code == "out_of_memory", ended

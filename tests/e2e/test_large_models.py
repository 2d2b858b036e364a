"""A model whose weights one file cannot hold, from its upload to a session on what came back.

The engine is the real one, confined as always, but for the bytes that one file holds: 64 KiB in the place of 2 GiB.
"""

import shlex
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from strop import Strop
from strop.serve import embedded
from tests.engine import small_files
from tests.engine.test_beside import bundle

COMMAND = shlex.join([sys.executable, small_files.__file__])


@pytest.fixture(scope="module")
def strop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strop]:
    home = tmp_path_factory.mktemp("service")
    with embedded(home, environment={"STROP_ENGINE_COMMAND": COMMAND}) as url, Strop(url) as client:
        yield client


def test_a_large_model_comes_back_as_two_files_that_load_at_once(strop: Strop, tmp_path: Path) -> None:
    given = bundle(tmp_path / "upload", net_width=512)
    job = strop.optimize(given, goal="size", max_drop=0.5, minutes=1.5).wait(200)
    assert job.succeeded, job.error
    report = job.report()
    before, folder = tmp_path / "upload" / "model.onnx", tmp_path / "out"
    folder.mkdir()
    best = job.download_model(folder / "faster.onnx")
    (trial, *_) = [trial for trial in report["trials"] if trial["file"]]
    other = job.download_candidate(trial["id"], folder / "other.onnx")
    assert not any(zipfile.is_zipfile(path) for path in folder.iterdir())
    assert len(list(folder.glob("*.data"))) >= 1
    features = np.random.default_rng(0).standard_normal((2, 20)).astype(np.float32)
    expected = onnxruntime.InferenceSession(before).run(None, {"features": features})[0]
    for path in (best, other):
        (found,) = onnxruntime.InferenceSession(path).run(None, {"features": features})
        assert np.abs(np.asarray(found) - np.asarray(expected)).max() < 0.1 * np.abs(np.asarray(expected)).max()
    whole = job.download_model(folder / "faster.zip")
    assert len(zipfile.ZipFile(whole).namelist()) == 2
    names = zipfile.ZipFile(job.download_bundle(tmp_path / "all.zip")).namelist()
    assert [name for name in names if name.startswith("model.onnx.")]
    again = strop.optimize(whole, steps=["simplify_graph"], minutes=0.5).wait(120)
    assert again.succeeded, "what was downloaded can be uploaded"

"""Model files that are whole, but do not fit into memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import mlp

UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
from engine.graph import load, save
path, action = Path(sys.argv[1]), sys.argv[2]
model = load(path) if action == "save" else None
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (6 << 20), -1))
try:
    save(model, path.with_suffix(".copy")) if model else load(path)
except MemoryError:
    print("MemoryError")
"""


@pytest.mark.parametrize("action", ["load", "save"])
def test_a_model_that_does_not_fit_into_memory_is_not_called_broken(tmp_path: Path, action: str) -> None:
    path = mlp(width=2048).save(tmp_path / "model.onnx")
    assert path.stat().st_size > 12 << 20
    command = [sys.executable, "-c", UNDER_A_LIMIT, str(path), action]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "MemoryError", done.stderr

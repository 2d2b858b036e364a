"""Heavy libraries are placed where they are needed: a part that does not use them never pays for them."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "onnx", "onnxruntime", "onnxscript", "sympy", "scipy"}


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("strop.cli", set()),
        ("app.main", set()),
        ("workers.tasks", set()),
        ("engine.inspect", {"onnx", "onnxruntime"}),
        ("engine.pipeline", {"onnx", "onnxruntime", "scipy"}),
    ],
)
def test_importing_a_part_loads_only_the_heavy_libraries_it_needs(module: str, allowed: set[str]) -> None:
    script = f"import sys, {module}; print(*({HEAVY} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= allowed

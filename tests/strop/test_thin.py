import subprocess
import sys

import pytest

SERVER_PARTS = ["app", "engine", "workers", "torch", "onnx", "onnxruntime", "numpy"]
SERVER_PARTS += ["fastapi", "sqlalchemy", "celery", "pydantic", "redis", "psutil"]

BLOCKED = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {SERVER_PARTS}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BLOCKED + code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["strop", "strop.cli", "strop.progress", "strop.serve", "strop.serve.service"])
def test_the_client_imports_no_part_of_the_service(module: str) -> None:
    done = run(f"import {module}; print(sorted(set({SERVER_PARTS}) & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stderr


def test_serve_without_the_service_installed_says_what_to_install() -> None:
    code = "sys.meta_path.pop(0)\nfor name in ('celery', 'fastapi'): sys.modules[name] = None\n"
    done = run(code + "sys.argv = ['strop', 'serve']; from strop.cli import main; main()")
    assert done.returncode == 1
    assert "pip install '.[all]'" in done.stderr
    assert "celery, fastapi" in done.stderr


def test_the_version_is_that_of_the_distribution() -> None:
    done = run("sys.argv = ['strop', '--version']; from strop.cli import main; main()")
    assert done.stdout.startswith("strop 0.")

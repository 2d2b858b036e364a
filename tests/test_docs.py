"""What is generated has not drifted, and the README keeps its promises word for word."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def generated() -> dict[Path, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.documents()


@pytest.mark.parametrize("name", ["docs/openapi.json", "docs/steps.md", "README.md"])
def test_generated_documents_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text() == generated()[ROOT / name], "run `make docs`"


def test_every_module_says_what_it_is() -> None:
    silent = [
        path
        for package in ("app", "engine", "strop", "workers")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" and not path.read_text().startswith('"""')
    ]
    assert not silent


def test_no_file_outgrows_its_reader() -> None:
    long = {
        str(path.relative_to(ROOT)): length
        for package in ("app", "engine", "strop", "workers", "tests", "benchmarks", "examples")
        for path in (ROOT / package).rglob("*.py")
        if (length := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        prose = re.sub(r"```.*?```", "", document.read_text(), flags=re.S)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
            assert (document.parent / target).exists(), f"{document.name} → {target}"

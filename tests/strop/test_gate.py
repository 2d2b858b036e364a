"""Which figures fail a build: whole intervals beyond a line, and with `strict` all that are not wholly inside."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from strop.cli.exits import Code
from strop.gate import Unjudged, judge

KEPT, OPEN, CROSSED = (1.2, 1.3), (0.95, 1.05), (0.7, 0.9)


def report(speed: tuple[float, float], lost: tuple[float, float] | None = None) -> dict[str, Any]:
    """Of a comparison of two models, by the ends of the intervals."""
    comparison = {"speedup": interval(speed), "accuracy_drop": lost and interval(lost)}
    return {
        "verdict": {"outcome": "compared"},
        "baseline": {"accuracy": {"metric": "top1", "unit": "share"}},
        "trials": [{"label": "new.onnx", "reason": "", "comparison": comparison}],
    }


def interval(ends: tuple[float, float]) -> dict[str, float]:
    return {"value": sum(ends) / 2, "low": ends[0], "high": ends[1]}


@pytest.mark.parametrize(("speed", "passes", "strictly"), [(KEPT, 1, 1), (OPEN, 1, 0), (CROSSED, 0, 0)])
def test_only_a_sure_loss_of_speed_fails_and_strictly_any_doubt(
    speed: tuple[float, float], passes: int, strictly: int
) -> None:
    found = [judge(report(speed), min_speedup=1, max_drop=None, strict=strict).passed for strict in (False, True)]
    assert found == [passes, strictly]


@pytest.mark.parametrize(
    ("lost", "passes", "strictly"), [((-0.01, 0.01), 1, 1), ((0.0, 0.03), 1, 0), ((0.02, 0.03), 0, 0)]
)
def test_the_same_for_accuracy(lost: tuple[float, float], passes: int, strictly: int) -> None:
    found = [judge(report(KEPT, lost), min_speedup=1, max_drop=0.01, strict=strict).passed for strict in (False, True)]
    assert found == [passes, strictly]


def test_a_file_returned_as_it_was_is_as_fast_as_before_and_an_optimized_one_is_judged_by_its_own_figures() -> None:
    unchanged = report(KEPT) | {"verdict": {"outcome": "no_improvement"}, "comparison": {}}
    assert judge(unchanged, min_speedup=1, max_drop=0, strict=True).passed
    assert not judge(unchanged, min_speedup=1.5, max_drop=None, strict=False).passed
    improved = report(CROSSED) | {"verdict": {"outcome": "improved"}, "comparison": {"speedup": interval((2, 3))}}
    assert judge(improved, min_speedup=1.5, max_drop=None, strict=True).passed


def test_what_was_not_compared_is_not_passed_over() -> None:
    with pytest.raises(Unjudged, match="the accuracy was not compared"):
        judge(report(KEPT), min_speedup=1, max_drop=0.01, strict=False)
    with pytest.raises(Unjudged, match="one model by itself"):
        judge(report(KEPT) | {"verdict": {"outcome": "analyzed"}}, min_speedup=1, max_drop=None, strict=False)


def gate(path: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "strop", "gate", "--report", str(path), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def test_a_build_reads_one_line_and_an_exit_code_without_a_service(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report(KEPT, (0.002, 0.004))))
    line = "1.25 times as fast (95 %: 1.20 to 1.30; at least 1) · 0.3 points of top1 lost (95 %: 0.2 to 0.4; at most 1)"
    assert gate(path, "--min-speedup", "1", "--max-drop", "0.01") == (Code.DONE, f"gate passed: {line}\n")
    code, said = gate(path, "--max-drop", "0.001")
    assert (code, said.count("\n"), "gate FAILED" in said, "CROSSED" in said) == (Code.CROSSED, 1, True, True)
    path.write_text("{}")
    assert gate(path)[0] == Code.USAGE


def test_the_help_names_both_models_once() -> None:
    done = subprocess.run([sys.executable, "-m", "strop", "gate", "--help"], capture_output=True, text=True, check=True)
    assert "[OLD] [NEW]\n" in done.stdout
    assert "[OLD <" not in done.stdout and "NEW]]" not in done.stdout

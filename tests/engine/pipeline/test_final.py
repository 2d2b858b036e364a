"""How the final measurement uses the time that is left, and whom it looks at."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.measure.latency import LatencyComparison
from engine.pipeline import final
from engine.pipeline.bench import Bench
from engine.pipeline.final import affordable
from engine.report import Accuracy
from tests.engine.pipeline.candidates import candidate, figures, interval, table


@pytest.mark.parametrize("left", [3.0, 6.0, 12.0, 100.0])
def test_it_stays_inside_what_is_left(left: float) -> None:
    processes, seconds = affordable(left, start_seconds=1.0, wanted_seconds=5.0)
    assert 2 <= processes <= 4
    assert processes * (1.0 + seconds) <= left


def test_no_more_is_measured_than_is_of_use() -> None:
    assert affordable(100, start_seconds=1, wanted_seconds=5) == (4, 5)


def test_two_processes_are_the_least_that_tell_a_gain_from_luck() -> None:
    assert affordable(0.5, start_seconds=3, wanted_seconds=5)[0] == 2


class Judge:
    """Stands in for a bench: what each file loses on samples that the search never saw is a table."""

    unseen = samples = range(100)
    recipe = SimpleNamespace(budget=SimpleNamespace(minutes=10))
    baseline = figures(10)
    warnings = ()

    def __init__(self, folder: Path, **losses: float) -> None:
        self.losses, self.asked, self.original = losses, list[str](), folder / "original.onnx"
        for path in (self.original, *(folder / f"{name}.onnx" for name in losses)):
            path.write_bytes(b"model")

    def judge_by_unseen(self, budget_seconds: float) -> None:
        """They do so from the beginning."""

    def quality(self, path: Path) -> object:
        self.asked.append(path.stem)
        accuracy = Accuracy(metric="top1", unit="share", higher_is_better=True, value=0.9, samples=100)
        drop = interval(self.losses[path.stem], 0.004)
        return SimpleNamespace(candidate=accuracy, drop=drop, sqnr_db=20.0, agreement=None, warnings=[])


def judged(folder: Path, searched: dict[str, tuple[float, float]], unseen: dict[str, float]) -> tuple[Any, list[str]]:
    """A table of a search, with speed and loss of each file; the ids of those that are measured at the end."""
    found = [replace(candidate(name, *how), path=folder / f"{name}.onnx") for name, how in searched.items()]
    trials, _ = table(*found)
    bench = Judge(folder, **unseen)
    finalists = final._finalists(cast("Bench", bench), trials)
    chosen = final._judged_by_unseen(cast("Bench", bench), trials, finalists, seconds=60)
    return trials, [one.id for one in chosen]


def test_a_favourite_that_was_lucky_gives_way_to_slower_files_that_keep_the_limit(tmp_path: Path) -> None:
    searched = {"t01": (5.0, 0.007), "t02": (4.5, 0.008), "t03": (3.4, 0.004), "t04": (1.7, 0.0), "t05": (1.0, 0.0)}
    unseen = {"t01": 0.0103, "t02": 0.0108, "t03": 0.005, "t04": 0.0, "t05": 0.0}
    trials, finalists = judged(tmp_path, searched, unseen)
    assert finalists == ["t03", "t04"], "t05 is no faster than the original, so it is nobody's stand-in"
    assert "The favourite of the search was t01" in trials.notes[-1]


def test_what_unseen_samples_refused_is_not_offered_even_if_the_measurement_fails(tmp_path: Path) -> None:
    searched, unseen = {"t01": (5.0, 0.005), "t02": (2.0, 0.004)}, {"t01": 0.03, "t02": 0.004}
    trials, finalists = judged(tmp_path, searched, unseen)
    assert trials.chosen == "t01"
    trials.choose_among([trials.candidates[name] for name in finalists])
    assert trials.chosen == "t02"


def test_the_most_faithful_file_is_the_last_resort(tmp_path: Path) -> None:
    searched = {f"t{number:02d}": (9.0 - number / 2, 0.009) for number in range(1, 9)} | {"t20": (1.5, 0.0)}
    unseen = dict.fromkeys(searched, 0.02) | {"t20": 0.001}
    _, finalists = judged(tmp_path, searched, unseen)
    assert finalists == ["t20"]


def test_where_none_keeps_the_limit_the_favourite_is_measured_to_say_so(tmp_path: Path) -> None:
    _, finalists = judged(tmp_path, {"t01": (5.0, 0.0), "t02": (4.0, 0.0)}, {"t01": 0.02, "t02": 0.03})
    assert finalists == ["t01"]


def beaten_by(over: float, spread: float) -> LatencyComparison:
    """The faster one of two, which is so many times as fast as the other."""
    latency = figures(1).latency
    assert latency
    return LatencyComparison(
        latency, latency, interval(2, 0.1), [], [interval(1, 0), interval(1, 0), interval(over, spread)]
    )


@pytest.mark.parametrize(
    ("over", "spread", "chosen"),
    [(1.05, 0.02, "t01"), (1.05, 0.06, "t02"), (1.01, 0.002, "t02")],
    ids=["faster beyond doubt", "perhaps faster", "hardly faster"],
)
def test_a_faster_file_wins_where_the_two_can_be_told_apart(over: float, spread: float, chosen: str) -> None:
    first, second = candidate("t01", 2.1, 0.004, sqnr_db=20.0), candidate("t02", 2.0, 0.004, sqnr_db=40.0)
    trials, _ = table(first, second)
    found = {"t01": beaten_by(over, spread), "t02": beaten_by(1, 0)}
    assert final._choice(trials, found, interval(1, 0.01)) == chosen

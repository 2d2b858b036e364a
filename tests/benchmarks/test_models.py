"""What the benchmark of models says of a rival beside Strop."""

import pytest

from benchmarks.models.rivals import STROP, Result, _row
from engine.measure.accuracy import AccuracyComparison
from engine.report import Accuracy, Interval, Latency

OURS = (1.9, 2.1)


def result(by: str, speed: tuple[float, float], drop: float = 0.0) -> Result:
    accuracy = Accuracy(metric="top1", unit="share", higher_is_better=True, value=0.9, samples=1000)
    latency = Latency(
        median_ms=1, p90_ms=1, p95_ms=1, p99_ms=1, runs=1, processes=1, load_ms=1, first_run_ms=1, throughput_per_s=1
    )
    lost = Interval(value=drop, low=drop, high=drop)
    compared = AccuracyComparison(accuracy, accuracy, lost, sqnr_db=30.0, agreement=1.0, warnings=[])
    gained = Interval(value=sum(speed) / 2, low=speed[0], high=speed[1])
    return Result(by, 1.0, words="improved", comparison=compared, speedup=gained, baseline=latency)


@pytest.mark.parametrize(
    ("speed", "drop", "said"),
    [
        ((2.2, 2.4), 0.0, "FASTER THAN STROP WITHIN THE LIMIT"),
        ((2.2, 2.4), 0.011, "loses more than the limit"),
        ((2.0, 2.3), 0.0, "as fast as Strop, as far as can be told"),
        ((1.2, 1.3), 0.0, "slower than Strop"),
        ((0.8, 0.9), 0.0, "slower than the original"),
    ],
)
def test_a_peer_is_judged_by_speed_only_inside_the_limit(speed: tuple[float, float], drop: float, said: str) -> None:
    assert _row("model", result("peer", speed, drop), result(STROP, OURS))["what"] == said


def test_a_file_of_ours_that_is_slower_than_the_original_is_told_in_capitals() -> None:
    ours = result(STROP, (0.8, 0.9))
    assert _row("model", ours, ours)["what"] == "SLOWER THAN THE ORIGINAL"


def test_a_peer_beside_a_job_that_failed_counts_as_faster() -> None:
    failed = Result(STROP, 1.0, problem="JobFailed: …")
    assert _row("model", result("peer", (1.1, 1.2)), failed)["what"] == "FASTER THAN STROP WITHIN THE LIMIT"

"""How far the figures can be trusted, as far as no warning says it already.

The comparison of outputs warns of samples too few for the limit and of a gain that is luck; both are in the report.
"""

from engine.report import Finding, Interval, Report
from engine.words import digits, loss, loss_interval, range_of, times

UNLIMITED_RESOLUTION = 0.01  #: what a user would want to tell where no limit was set
SHARES = "share"


def noise_floor(report: Report) -> Finding | None:
    """No candidate's gain stands out of what the original gains on itself."""
    noise = report.environment.noise_floor
    speedups = [
        trial.comparison.speedup.value for trial in report.trials if trial.comparison and trial.comparison.speedup
    ]
    if noise is None or not speedups or report.profile_after is not None:
        return None
    best, floor = max(speedups), max(noise.high, 1 / noise.low) if noise.low > 0 else noise.high
    if not 1 < best <= floor:
        return None
    text = (
        f"The best candidate measured {times(best)} as fast, but the original against itself measured "
        f"{times(noise.value)} ({range_of(noise)}): such a gain cannot be told from noise."
    )
    return Finding(code="noise_floor", text=text, severity="warning")


def few_samples(report: Report) -> Finding | None:
    """Where no limit was set; where one was, the comparison itself has warned."""
    drop, limit = report.comparison.accuracy_drop, report.recipe.limits.accuracy_drop
    accuracy, samples = report.optimized.accuracy, report.environment.evaluation_samples
    if drop is None or limit is not None or accuracy is None or accuracy.unit != SHARES or not samples:
        return None
    if _half(drop) <= UNLIMITED_RESOLUTION:
        return None
    needed = round(samples * (_half(drop) / UNLIMITED_RESOLUTION) ** 2)
    text = (
        f"{samples} samples cannot resolve {loss(UNLIMITED_RESOLUTION, accuracy)}: the drop lies between "
        f"{loss_interval(drop, accuracy)} (95 %). About {digits(needed)} samples would tell."
    )
    return Finding(code="few_samples", text=text, severity="warning")


def made_up_inputs(report: Report) -> Finding | None:
    if report.environment.data_source != "synthetic" or not report.environment.evaluation_samples:
        return None
    text = (
        f"No data was given, so {report.environment.evaluation_samples} inputs were made up: times hold, but how far "
        "outputs changed on real data is unknown."
    )
    return Finding(code="synthetic_inputs", text=text, severity="warning")


def _half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2

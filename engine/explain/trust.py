"""How far the figures can be trusted."""

from engine.report import Finding, Interval, Report
from engine.words import digits, loss, loss_interval, range_of, times

UNLIMITED_RESOLUTION = 0.01  #: what a user would want to tell where no limit was set
LOW_FIDELITY_DB = 15.0
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
    drop, limit = report.comparison.accuracy_drop, report.recipe.limits.accuracy_drop
    accuracy, samples = report.optimized.accuracy, report.environment.evaluation_samples
    if drop is None or accuracy is None or not samples or (limit is None and accuracy.unit != SHARES):
        return None
    wanted = limit or UNLIMITED_RESOLUTION
    if _half(drop) <= wanted:
        return None
    needed = round(samples * (_half(drop) / wanted) ** 2)
    text = (
        f"{samples} samples cannot resolve {loss(wanted, accuracy)}: the drop lies between "
        f"{loss_interval(drop, accuracy)} (95 %). About {digits(needed)} samples would tell."
    )
    return Finding(code="few_samples", text=text, severity="warning")


def gain_is_luck(report: Report) -> Finding | None:
    drop, sqnr_db = report.comparison.accuracy_drop, report.comparison.sqnr_db
    if drop is None or sqnr_db is None or drop.value >= 0 or sqnr_db >= LOW_FIDELITY_DB:
        return None
    text = (
        f"The score rose by {loss(-drop.value, report.optimized.accuracy)}, yet the outputs are only {digits(sqnr_db)} "
        f"dB from the original's: on {report.environment.evaluation_samples} samples such a gain is luck."
    )
    return Finding(code="gain_is_luck", text=text, severity="warning")


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

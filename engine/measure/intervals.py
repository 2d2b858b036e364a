"""95 % interval of a speed-up that holds over processes.

Within a process, the logarithm of (original's time / candidate's time) is taken round by round, because both halves of
a round meet the same machine. Its median d_p is that process's answer; order statistics give its standard error e_p.

Two sessions of one file differ by some percent from process to process (where memory lies decides it), and no number of
rounds sees that. So the processes are the sample:

    estimate   m = mean of d_p,  p = 1 … P
    variance   s² = sum (d_p - m)² / (P - 1)                     contains both kinds of spread
    plain      h₁ = t(P - 1) · sqrt(s² / P)                      exact for normal d_p, whatever their spread
    moderated  h₂ = t(n₀ + P - 1) · sqrt(v / P),  v = (n₀ (s₀² + mean e_p²) + (P - 1) s²) / (n₀ + P - 1)
    interval   exp(m ± the wider of h₁ and h₂)

A few processes may agree by luck, and one process has no s² at all. So h₂ moderates it by what is known beforehand
(Smyth 2004): processes differ with a standard deviation of about s₀ = 1 %, which counts as n₀ = 2 further observations.
One process then gives an honest ± 4.4 %, and the more processes there are, the less the prior says.
"""

from collections.abc import Sequence
from math import exp, sqrt

import numpy as np
from scipy.special import stdtrit

from engine.measure.spread import MedianInterval
from engine.report import Interval

PRIOR_SPREAD = 0.01  #: s₀, of the log ratio
PRIOR_PROCESSES = 2  #: n₀


def speedup_interval(processes: Sequence[MedianInterval]) -> Interval:
    """The speed-up, from each process's median log ratio."""
    medians = np.array([process.median for process in processes])
    within = float(np.mean([process.standard_error**2 for process in processes]))
    middle, squares = float(medians.mean()), float(np.sum((medians - medians.mean()) ** 2))
    plain = _half_width(squares, len(medians) - 1, len(medians))
    prior = PRIOR_PROCESSES * (PRIOR_SPREAD**2 + within)
    moderated = _half_width(prior + squares, PRIOR_PROCESSES + len(medians) - 1, len(medians))
    half = max(plain, moderated)
    return Interval(value=exp(middle), low=exp(middle - half), high=exp(middle + half))


def _half_width(squares: float, freedom: int, count: int) -> float:
    return float(stdtrit(freedom, 0.975)) * sqrt(squares / freedom / count) if freedom else 0.0

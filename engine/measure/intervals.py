"""95 % interval of a speed-up that holds over processes.

Within a process, the logarithm of (original's time / candidate's time) is taken round by round, because both halves of
a round meet the same machine. Its median d_p is that process's answer; order statistics give its standard error e_p.

Two sessions of one file differ by some percent from process to process (where memory lies decides it), and no number of
rounds sees that. So the processes are the sample:

    estimate   m = mean of d_p,  p = 1 … P
    variance   s² = sum (d_p - m)² / (P - 1)                     contains both kinds of spread
    moderated  v = (n₀ (s₀² + mean e_p²) + (P - 1) s²) / (n₀ + P - 1)
    interval   exp(m ± t(n₀ + P - 1) · sqrt(v / P))

With few processes s² alone is nearly worthless, so it is moderated by what is known beforehand (Smyth 2004): processes
differ with a standard deviation of about s₀ = 1 %, which counts as n₀ = 2 further observations. One process then gives
an honest ± 4.4 %, and the more processes there are the less the prior says.
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
    freedom = PRIOR_PROCESSES + len(medians) - 1
    squares = float(np.sum((medians - medians.mean()) ** 2))
    variance = (PRIOR_PROCESSES * (PRIOR_SPREAD**2 + within) + squares) / freedom
    half = float(stdtrit(freedom, 0.975)) * sqrt(variance / len(medians))
    middle = float(medians.mean())
    return Interval(value=exp(middle), low=exp(middle - half), high=exp(middle + half))

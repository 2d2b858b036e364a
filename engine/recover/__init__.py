"""Recovery: a graph learns from a teacher graph, from labels, or from both, and stays the same graph.

One loop serves distillation, fine-tuning and training with quantization in the loop. It needs torch, so import it where
a step runs, never where one is listed.
"""

from engine.recover.plan import Options
from engine.recover.recovery import Classroom, Recovered, recover

__all__ = ["Classroom", "Options", "Recovered", "recover"]

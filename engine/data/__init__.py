"""Samples of a model's inputs: from an .npz, checked against the model's signature, or made up.

Every error says which array it is about and how to mend it.
"""

from engine.data.fit import common_length, fit_samples, is_feedable, open_samples
from engine.data.handover import load_samples, save_samples
from engine.data.npz import open_arrays
from engine.data.samples import Feeds, Samples
from engine.data.synthetic import synthetic_samples

__all__ = [
    "Feeds",
    "Samples",
    "common_length",
    "fit_samples",
    "is_feedable",
    "load_samples",
    "open_arrays",
    "open_samples",
    "save_samples",
    "synthetic_samples",
]

"""NNCF's post-training quantization with its defaults: `python -I nncf_defaults.py MODEL RUNS.npz RESULT`.

It imports nothing of ours, so an interpreter with NNCF, ONNX and NumPy can run it. RUNS holds an array for each input,
its first axis the runs.
"""

import sys

import nncf
import numpy as np
import onnx


def main(model: str, runs: str, result: str) -> None:
    arrays = dict(np.load(runs))
    count = len(next(iter(arrays.values())))
    feeds = [{name: np.asarray(array[run]) for name, array in arrays.items()} for run in range(count)]
    onnx.save(nncf.quantize(onnx.load(model), nncf.Dataset(feeds)), result)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Outputs of a model in memory."""

import numpy as np
import onnx
import onnxruntime

from engine.data import Samples


def outputs(model: onnx.ModelProto, samples: Samples) -> list[np.ndarray]:
    """Each output on the first samples."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, next(samples.batches(2)))

"""Eight bits instead of thirty-two: our own surgery on the graph.

prepare     a graph to work on: opset 13 or later, constants folded, batch norms and biases inside their layer
plan        which nodes compute in 8 bits, and which tensors need a range
calibrate   the ranges, learned from samples that stream through ONNX Runtime
histograms  three methods that read a range from counts: percentile, entropy, mean squared error
integers    the arithmetic: scales, zero points, rounded weights and biases
qdq         the surgery: QuantizeLinear and DequantizeLinear around what the plan names
dynamic     matrix products that quantize their activations as they run
"""

"""What keeps the accuracy of an 8-bit model: each takes a float graph and gives another one to quantize in its place.

equalize    weight ranges of layers that follow each other, evened out; same outputs
smooth      outliers of activations, moved into the weights that they meet; same outputs
bias        the mean error of rounded weights, taken out of the biases

channels    moves factors per channel from where a tensor comes from into the layers that read it
sources     finds where it comes from
draft       a copy of a model that is being changed
"""

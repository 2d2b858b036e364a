"""Sixteen-bit floats in place of float32.

rounding    which values such a float can hold
storing     weights that lie in the file in half precision, and are float32 again when the model is loaded
computing   nodes that compute in half precision
"""

"""Cheaper layers in the place of others, each taught by what it replaces and chosen by measured time."""

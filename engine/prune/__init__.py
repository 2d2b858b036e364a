"""Whole channels leave a graph: which ones can, which ones matter, and what has to follow.

channels       ids of positions, and which can only leave together
walk, rules    follow them through the graph, operator by operator
plain, heads   the graph in words that are followed more easily
groups         channels of the same layers
basis          what is known before anything leaves
moments        what layers read on calibration samples
importance     how much each channel matters by itself; dead ones
taylor         the same by gradients, the only one that needs torch
elimination    which ones the others can best replace
choice         how many leave, the same share of each group
targets        how many leave of each group for a share of time or work: `work` and `pace` know what widths cost,
               `harm` what they do to the outputs, `budget` chooses
surgery        takes them out
reconstruct    lets the others take over
"""

"""Whole channels leave a graph: which ones can, which ones matter, and what has to follow.

channels       ids of positions, and which can only leave together
walk, rules    follow them through the graph, operator by operator
groups         channels of the same layers
surgery        takes some of them out
"""

"""One optimization: the original's figures, then plan after plan, then the final measurement that decides (`job`)."""

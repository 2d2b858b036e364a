"""Figures, always as ratios of things done side by side in one run: `make bench`."""

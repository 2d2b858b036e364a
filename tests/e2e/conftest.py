"""Tests of the whole share one real service."""

from tests.service import service, strop

__all__ = ["service", "strop"]

"""Tests of the client share one real service."""

from tests.service import service, strop

__all__ = ["service", "strop"]

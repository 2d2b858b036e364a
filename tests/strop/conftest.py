"""Tests of the client share one real service, and so one process of the test runner."""

import pytest

from tests.service import model, service, strop

__all__ = ["model", "service", "strop"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "service" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("service"))

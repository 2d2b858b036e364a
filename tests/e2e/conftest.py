"""Tests of the whole: the service with the real engine, in one process of the test runner."""

import pytest

from tests.service import engine_service

__all__ = ["engine_service"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "engine_service" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("engine_service"))

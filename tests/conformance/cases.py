"""ONNX's own tests of operators, some 1,900: a model each, its inputs, and what it must give."""

from functools import cache

from onnx.backend.test.case import node
from onnx.backend.test.case.test_case import TestCase


@cache
def node_cases() -> dict[str, TestCase]:
    """Each case by name; making them takes some seconds."""
    return {case.name: case for case in node.collect_testcases(None) if case.model is not None and case.data_sets}

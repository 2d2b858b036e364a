"""What options may be is said of the service's own JSON Schemas, and of what they may hold one day."""

from typing import Any

import pytest

from strop.cli.choices import choices, default

DEFINITIONS = {"Range": {"enum": ["auto", "full", "reduced"], "type": "string"}}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/$defs/Range"}, "auto, full or reduced"),
        ({"enum": [4, 8], "type": "integer"}, "4 or 8"),
        ({"const": "auto"}, "auto"),
        ({"anyOf": [{"type": "boolean"}, {"const": "auto"}]}, "true or false or auto"),
        ({"type": "number", "minimum": 90, "maximum": 100}, "from 90 to 100"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1440}, "above 0 to 1,440"),
        ({"type": "integer", "minimum": 1}, "from 1"),
        ({"type": "number", "exclusiveMaximum": 1}, "below 1"),
        ({"type": "array", "items": {"type": "string"}}, "a list of text"),
        ({"type": "object"}, "object"),
        ({}, "anything"),
    ],
)
def test_values_and_bounds_are_told(schema: dict[str, Any], words: str) -> None:
    assert choices(schema, DEFINITIONS) == words


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"default": "auto"}, "auto if left out"),
        ({"default": 0.5}, "0.5 if left out"),
        ({"default": False}, "false if left out"),
        ({"default": 0}, "0 if left out"),
        ({"default": None}, "none if left out"),
        ({"default": []}, "none if left out"),
        ({}, "needed"),
    ],
)
def test_what_stands_for_a_missing_option_is_told(schema: dict[str, Any], words: str) -> None:
    assert default(schema) == words

"""What an option may be, in words, read from its JSON Schema."""

import json
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
BOUNDS = {
    "minimum": "from {:,}",
    "exclusiveMinimum": "above {:,}",
    "maximum": "to {:,}",
    "exclusiveMaximum": "below {:,}",
}
TYPES = {"boolean": "true or false", "string": "text"}


def choices(schema: Schema, definitions: Schema) -> str:
    """Its values or its bounds, such as `auto, minmax or mse` or `from 90 to 100`."""
    schema = _resolved(schema, definitions)
    if parts := schema.get("anyOf"):
        return " or ".join(choices(part, definitions) for part in parts)
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return _listed([_value(value) for value in values])
    if schema.get("type") == "array":
        return f"a list of {choices(schema.get('items', {}), definitions)}"
    return _of_type(schema)


def default(schema: Schema) -> str:
    """What it is when it is left out."""
    if "default" not in schema:
        return "needed"
    empty = schema["default"] in (None, [])
    return f"{'none' if empty else _value(schema['default'])} if left out"


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    name = schema.get("$ref", "").rpartition("/")[2]
    return definitions[name] if name else schema


def _of_type(schema: Schema) -> str:
    bounds = " ".join(words.format(schema[name]) for name, words in BOUNDS.items() if name in schema)
    kind = str(schema.get("type", "anything"))
    return bounds or TYPES.get(kind, kind)


def _listed(values: list[str]) -> str:
    *others, last = values
    return f"{', '.join(others)} or {last}" if others else last


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)

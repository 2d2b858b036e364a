"""What is wrong with a request, in plain words: each fault says what is wanted in its place, and what was found there.

Pydantic finds the faults and gives each a type; `WANTED` and `SENTENCES` turn the types into words. What may stand in a
place is read from the JSON Schema of the body.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from app.errors import Fault
from engine.recipe import PRINTABLE

Schema = Mapping[str, Any]
Found = Mapping[str, Any]  #: one error as Pydantic tells it
MOST_READ = 500  # a body may be wrong in a hundred thousand places
MOST_TOLD = 100
MOST_NAMED = 3
LONGEST_SHOWN = 60
RECIPE = {"goal": {"minimize": "latency"}}


def faults(found: Sequence[Found], sent: Any, schema: Schema) -> list[Fault]:
    """One for each wrong place, in the order found; a place that holds a wrong place is not named itself."""
    places: dict[tuple[str, str], list[Found]] = {}
    for each in found[:MOST_READ]:
        places.setdefault(_place(each, sent), []).append(each)
    wrong = [place for place in places if not _holds_another(place, places)]
    return [_fault(*place, _words(places[place], schema)) for place in wrong[:MOST_TOLD]]


def listed(found: Sequence[Fault]) -> str:
    """The first of them in a line."""
    named = [f"{fault.pointer or fault.parameter or ''}: {fault.detail}".removeprefix(": ") for fault in found]
    more = len(named) - MOST_NAMED
    return "; ".join(named[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _fault(source: str, place: str, detail: str) -> Fault:
    place, detail = (text.encode(errors="backslashreplace").decode() for text in (place, detail))
    return Fault(place, detail) if source == "body" else Fault(None, detail, parameter=place)


def _holds_another(place: tuple[str, str], places: Iterable[tuple[str, str]]) -> bool:
    return any(source == place[0] and other.startswith(place[1] + "/") for source, other in places)


# ── places ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _place(found: Found, sent: Any) -> tuple[str, str]:
    source, *path = found["loc"]
    if source != "body":
        return source, ".".join(map(str, path))
    return source, _pointer(path, sent, is_missing=found["type"] == "missing")


def _pointer(path: Sequence[str | int], sent: Any, *, is_missing: bool) -> str:
    """`("steps", 0, "quantize_static", "ratio")` as `/steps/0/ratio`: a step's kind is no place in what was sent."""
    pointer, last = "", len(path) - 1
    for index, part in enumerate(path):
        try:
            sent = sent[part]
        except (LookupError, TypeError):
            if not (is_missing and index == last):
                continue
        pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
    return pointer


def _schema_at(path: Sequence[str | int], schema: Schema) -> Schema:
    """What may stand in a place; the parts that Pydantic puts between, such as `constrained-int`, change nothing."""
    node = schema
    for part in path:
        node = next(filter(None, (_below(part, choice, schema) for choice in _choices(node, schema))), node)
    return next(iter(_choices(node, schema)))


def _below(part: str | int, node: Schema, schema: Schema) -> Schema | None:
    if isinstance(part, int):
        return node.get("items")
    if kind := node.get("discriminator", {}).get("mapping", {}).get(part):
        return _resolved({"$ref": kind}, schema)
    return node.get("properties", {}).get(part)


def _choices(node: Schema, schema: Schema) -> list[Schema]:
    """What it may be, each with what is said of it beside the choice."""
    node = dict(_resolved(node, schema))
    choices = node.pop("anyOf", [{}])
    return [{**node, **_resolved(each, schema)} for each in choices]


def _kinds(node: Schema, schema: Schema) -> list[str]:
    """Of the steps, where steps may stand."""
    return [_resolved(each, schema)["properties"]["kind"]["const"] for each in node.get("oneOf", [])]


def _resolved(node: Schema, schema: Schema) -> Schema:
    """The definition that it refers to, with what is said beside the reference."""
    name = node.get("$ref", "").rpartition("/")[2]
    return {**schema["$defs"][name], **node} if name else node


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _words(errors: Sequence[Found], schema: Schema) -> str:
    """Of all that is wrong with one place; where it could be one thing or another, both are named."""
    for found in errors:
        if found["type"] in SENTENCES:
            return SENTENCES[found["type"]](found, schema)
    wanted = [words for found in errors if (words := _wanted(found, schema))]
    if not wanted:
        return str(errors[0]["msg"])
    first = errors[0]
    subject = "" if first["loc"][1:] else "the body "
    near = _did_you_mean(first["input"], _expected(errors))
    return f"{subject}must be {' or '.join(dict.fromkeys(wanted))}, not {_shown(first['input'])}{near and ';' + near}"


def _wanted(found: Found, schema: Schema) -> str:
    """The end of `must be …`."""
    if found["type"] in OBJECTS:
        return f"an object such as {_example(found, schema)}"
    if isinstance(found["input"], float) and not math.isfinite(found["input"]):
        return "a finite number"
    words = WANTED.get(found["type"], "")
    return words.format(**{name: _quoted(value) for name, value in found.get("ctx", {}).items()})


def _quoted(value: object) -> str:
    """Bounds without needless digits, and Pydantic's `'a' or 'b'` with the quotes that stand around names here."""
    if isinstance(value, int | float):
        return f"{value:.15g}"
    return str(value).replace("'", "`").replace("True", "true")


def _expected(errors: Sequence[Found]) -> list[str]:
    return [
        name for found in errors for name in re.findall(r"'([^']+)'", str(found.get("ctx", {}).get("expected", "")))
    ]


def _did_you_mean(word: object, known: Iterable[str]) -> str:
    near = get_close_matches(word, list(known), 1) if isinstance(word, str) else []
    return f" did you mean `{near[0]}`?" if near else ""


def _shown(value: object) -> str:
    """What was found there, short."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"


def _example(found: Found, schema: Schema) -> str:
    """An object as wanted, around what was given instead of it where that fits."""
    path = found["loc"][1:]
    if not path:
        return json.dumps({"steps": [{"kind": "simplify_graph"}]} if isinstance(found["input"], list) else RECIPE)
    node = _schema_at(path, schema)
    if kinds := _kinds(node, schema):
        return json.dumps({"kind": found["input"] if found["input"] in kinds else kinds[0]})
    name = next(iter([*node.get("required", []), *node.get("properties", {"…": None})]))
    return json.dumps({name: _value(found["input"], _schema_at([*path, name], schema))}, ensure_ascii=False)


def _value(given: object, node: Schema) -> object:
    """What was given, or else what may stand there."""
    is_one_of_its_values = isinstance(given, str) and given in node.get("enum", [given])
    is_a_number = isinstance(given, int | float) and node.get("type") in {"number", "integer"}
    if is_a_number or (is_one_of_its_values and node.get("type") == "string"):
        return given
    return next(iter([*node.get("examples", []), *node.get("enum", []), node.get("default", "…")]))


def _extra(found: Found, schema: Schema) -> str:
    _, *path, name = found["loc"]
    known = _schema_at(path, schema).get("properties", {})
    name = str(name)[:LONGEST_SHOWN]
    return f"there is no `{name}` here{_or_stop(_did_you_mean(name, known))} Known are: {', '.join(known)}"


def _unknown_step(found: Found, _: Schema) -> str:
    tag, known = found["ctx"]["tag"], re.findall(r"'([^']+)'", found["ctx"]["expected_tags"])
    hint = _or_stop(_did_you_mean(tag, known))
    return f"there is no step `{tag[:LONGEST_SHOWN]}`{hint} The steps are: {', '.join(known)}"


def _step_without_kind(found: Found, schema: Schema) -> str:
    near = get_close_matches("kind", [each for each in found["input"] if isinstance(each, str)], 1)
    instead = f", not a `{near[0]}`" if near else ""
    known = _kinds(_schema_at(found["loc"][1:], schema), schema)
    return f"a step needs a `kind`{instead}. The steps are: {', '.join(known)}"


def _or_stop(hint: str) -> str:
    return f";{hint}" if hint else "."


def _missing(found: Found, schema: Schema) -> str:
    source, *path = found["loc"]
    if source != "body" or not path:
        return "is missing" if path else f"the body is missing: send a JSON object such as {json.dumps(RECIPE)}"
    node = _schema_at(path, schema)
    examples = [f"such as {json.dumps(each)}" for each in node.get("examples", [])]
    said = ", ".join([node.get("description", "").rstrip("."), *examples]).strip(", ")
    return f"is missing: {said[:1].lower()}{said[1:]}" if said else "is missing"


def _too_short(found: Found, _: Schema) -> str:
    least = found["ctx"]["min_length"]
    held = "is empty; name" if not found["input"] else f"holds {len(found['input'])}; name"
    return f"{held} at least {'one' if least == 1 else least}, or leave it out"


def _too_long(found: Found, _: Schema) -> str:
    return f"may hold at most {found['ctx']['max_length']}, not {len(found['input'])}"


def _pattern(found: Found, schema: Schema) -> str:
    if found["ctx"]["pattern"] == PRINTABLE:
        return "may not hold control characters, such as line breaks"
    examples = _schema_at(found["loc"][1:], schema).get("examples") or [found["ctx"]["pattern"]]
    return f"must look like {examples[0]}, not {_shown(found['input'])}"


def _value_error(found: Found, _: Schema) -> str:
    return str(found["msg"]).removeprefix("Value error, ")


OBJECTS = frozenset({"model_attributes_type", "model_type", "dict_type"})
WANTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("string_type", "string_unicode"), "text"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "enum": "{expected}",
}
SENTENCES: dict[str, Callable[[Found, Schema], str]] = {
    "extra_forbidden": _extra,
    "union_tag_invalid": _unknown_step,
    "union_tag_not_found": _step_without_kind,
    "missing": _missing,
    "too_short": _too_short,
    "too_long": _too_long,
    "string_too_long": _too_long,
    "string_too_short": _too_short,
    "string_pattern_mismatch": _pattern,
    "value_error": _value_error,
}

"""Writes what is generated, so that it cannot drift: `make docs`; `tests/test_docs.py` compares.

docs/openapi.json the API's contract      docs/steps.md every step and its options      README.md the tree
"""

import ast
import json
import re
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from app.main import create_app
from app.settings import Settings
from engine.recipe import Step

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "strop": "what a user types and imports; knows only HTTP",
    "app": "the service: requests in, jobs kept, files stored",
    "workers": "wake up, claim a job, supervise one child process, publish",
    "engine": "the pure optimizer: files in, files and a report out",
}
BESIDE = {
    "examples": "small models, the scripts that trained them, their licences, and the demo",
    "benchmarks": "`make bench`: ratios taken side by side in one run",
    "tests": "the same tree again, plus e2e, faults, conformance",
    "docs": "architecture, decisions, and what is generated",
}


def documents() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    readme = ROOT / "README.md"
    return {
        ROOT / "docs" / "openapi.json": json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n",
        ROOT / "docs" / "steps.md": steps(),
        readme: re.sub(
            r"(<!-- tree -->\n).*(<!-- /tree -->)", lambda m: m[1] + tree() + m[2], readme.read_text(), flags=re.S
        ),
    }


def openapi() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        return create_app(Settings(home=Path(home), auto_migrate=True)).openapi()


# ── the steps ────────────────────────────────────────────────────────────────────────────────────────────────────────


def steps() -> str:
    union, *_ = get_args(Step)
    parts = [
        "# Steps\n\nGenerated from `engine/recipe.py` by `make docs`. The same, as JSON Schema: `GET /v1/steps`.\n"
    ]
    for step in get_args(union):
        schema = step.model_json_schema()
        kind = schema["properties"]["kind"]["const"]
        parts.append(f"\n## {kind}\n\n{step.__doc__}\n{_picture(kind)}{_story(kind)}{_options(schema)}")
    return "".join(parts)


def _picture(kind: str) -> str:
    """What it did to one real network; `python -m benchmarks pictures` draws it."""
    file = f"pictures/{kind}.svg"
    return f"\n![What {kind} did to one network]({file})\n" if (ROOT / "docs" / file).exists() else ""


def _story(kind: str) -> str:
    """The technique's own words: formula, when it pays and when it does not."""
    documentation = ast.get_docstring(ast.parse((ROOT / "engine" / "steps" / f"{kind}.py").read_text())) or ""
    _, _, story = documentation.partition("\n\n")
    return f"\n```text\n{textwrap.dedent(story).rstrip()}\n```\n" if story else ""


def _options(schema: dict[str, Any]) -> str:
    options = {name: option for name, option in schema["properties"].items() if name != "kind"}
    if not options:
        return "\nNo options.\n"
    rows = [f"| `{name}` | {_values(option, schema)} | {_default(option)} | {option.get('description', '')} |"
            for name, option in options.items()]  # fmt: skip
    return "\n| option | values | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _default(option: dict[str, Any]) -> str:
    return f"`{option['default']}`" if "default" in option else "must be given"


def _values(option: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in option:
        named = schema["$defs"][option["$ref"].rsplit("/", 1)[-1]]
        if "enum" not in named:
            return f"`{{{', '.join(named['properties'])}}}`"
        return ", ".join(f"`{value}`" for value in named["enum"])
    if "anyOf" in option:
        return ", ".join(_values(one, schema) for one in option["anyOf"])
    if "minimum" in option or "exclusiveMinimum" in option:
        low = option.get("minimum", f"above {option.get('exclusiveMinimum')}")
        high = option.get("maximum", f"below {option.get('exclusiveMaximum')}")
        return f"{low} … {high}"
    if "enum" in option or "const" in option:
        return ", ".join(f"`{value}`" for value in option.get("enum", [option.get("const")]))
    return f"list of {_values(option['items'], schema)}" if "$ref" in option.get("items", {}) else option["type"]


# ── the tree ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def tree() -> str:
    lines = []
    for name, words in PACKAGES.items():
        lines += [_line(f"{name}/", words, 0), *_files(ROOT / name)]
    lines += [_line(f"{name}/", words, 0) for name, words in BESIDE.items()]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _files(folder: Path, depth: int = 1) -> Iterator[str]:
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield _line(path.name, _first_sentence(path), depth)
    for inner in sorted(path for path in folder.iterdir() if (path / "__init__.py").exists()):
        yield _line(f"{inner.name}/", _first_sentence(inner / "__init__.py"), depth)
        yield from _files(inner, depth + 1)


def _line(name: str, words: str, depth: int) -> str:
    return f"{'  ' * depth}{name:<{24 - 2 * depth}} {words}".rstrip()


def _first_sentence(path: Path) -> str:
    documentation = ast.get_docstring(ast.parse(path.read_text())) or ""
    sentence = " ".join(documentation.partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", sentence)[0].rstrip(".:")


if __name__ == "__main__":
    for document, text in documents().items():
        document.write_text(text)

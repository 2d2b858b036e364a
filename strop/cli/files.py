"""`strop inspect` and `strop steps`: what a model is, and what can be done."""

from dataclasses import asdict
from typing import Any

import typer

from strop.cli.choices import choices, default
from strop.cli.exits import say
from strop.cli.options import ApiKey, Json, Model, Quiet, Url
from strop.cli.output import print_json, print_table, sent
from strop.client import DEFAULT_URL, Strop


def inspect(
    model: Model, as_json: Json = False, quiet: Quiet = False, url: Url = DEFAULT_URL, api_key: ApiKey = None
) -> None:
    """Show what a model is, and which steps apply to it."""
    with Strop(url, api_key) as strop:
        file = strop.inspect(sent(strop.upload_model, model, quiet=quiet or as_json))
    if as_json:
        print_json({"model": asdict(file)})
        return
    summary = file.summary or {}
    print_table(_facts(file.id, file.name, summary))
    typer.echo()
    fits = ((fit["kind"], "yes" if fit["applies"] else "no", fit.get("reason")) for fit in summary.get("steps", []))
    print_table(fits, "STEP", "APPLIES", "WHY NOT")
    for warning in summary.get("warnings", []):
        say(f"Warning: {warning}")


def steps(as_json: Json = False, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """List the steps there are, and what their options may be."""
    with Strop(url, api_key) as strop:
        catalogue = strop.steps()
    if as_json:
        print_json(catalogue)
        return
    for step in catalogue:
        typer.echo(f"{step['kind']}\n  {step['title']}")
        for name, schema in step["options"]["properties"].items():
            typer.echo(_option(name, schema, step["options"].get("$defs", {})))


def _facts(file_id: str, name: str, summary: dict[str, Any]) -> list[tuple[str, object]]:
    macs = summary.get("macs")
    operators = sorted(summary.get("operators", {}).items(), key=lambda each: -each[1])
    return [
        ("model", file_id),
        ("name", name),
        *(("input", _tensor(each)) for each in summary.get("inputs", [])),
        *(("output", _tensor(each)) for each in summary.get("outputs", [])),
        ("opset", summary.get("opset")),
        ("parameters", f"{summary.get('parameters', 0):,}"),
        ("MACs", "unknown" if macs is None else f"{macs:,}"),
        ("size", f"{summary.get('size_bytes', 0):,} bytes"),
        ("memory", f"about {summary.get('expected_memory_bytes', 0):,} bytes"),
        ("operators", ", ".join(f"{count} {operator}" for operator, count in operators)),
    ]


def _tensor(info: dict[str, Any]) -> str:
    shape = ", ".join("?" if size is None else str(size) for size in info["shape"])
    return f"{info['name']}: {info['dtype']}[{shape}]"


def _option(name: str, schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Its name, values and default in a line, and its meaning below."""
    choice = f"{name}: {choices(schema, definitions)}; {default(schema)}"
    return f"    {choice}\n        {schema.get('description', '')}".rstrip()

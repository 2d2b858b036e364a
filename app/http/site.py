"""The two pages for people: where to begin, and every door with what it does. No script, and nothing from elsewhere."""

import html
import re
from typing import Any

from fastapi.responses import HTMLResponse

#: Beside each, what is behind it.
PLACES = {
    "/docs": "every door of the service",
    "/v1/jobs": "the jobs, newest first",
    "/v1/models": "uploaded models",
    "/v1/datasets": "uploaded data sets",
    "/v1/steps": "what a job may do to a model, and the options",
    "/v1/problems": "what may go wrong, and what to do then",
    "/openapi.json": "the contract for programs",
    "/readyz": "whether the service is well",
}
SECTIONS = {"models": "Models", "datasets": "Data sets", "jobs": "Jobs", "results": "Results", "service": "The service"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
:root { --ground: #f3f5f7; --paper: #fff; --ink: #14181d; --soft: #59636f; --line: #dbe0e6; --link: #0a6ea8;
  color-scheme: light dark }
@media (prefers-color-scheme: dark) { :root { --ground: #0e1114; --paper: #161a1f; --ink: #e9edf1; --soft: #9aa5b1;
  --line: #2b323a; --link: #52b4ea } }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 60rem; margin: 2rem auto; padding: 1.5rem 2rem 2rem; background: var(--paper); border-radius: 10px }
h1 { margin: 0; font-size: 2rem; letter-spacing: -.02em } h2 { margin: 2rem 0 .4rem; font-size: 1.1rem }
p { margin: .4rem 0 } a { color: var(--link) } small, .soft { color: var(--soft) }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .86em }
pre { margin: .6rem 0; padding: .9rem 1rem; overflow-x: auto; border: 1px solid var(--line); border-radius: 6px }
table { width: 100%; margin-top: .8rem; border-collapse: collapse }
td { padding: .45rem 1rem .45rem 0; vertical-align: top }
tr { border-top: 1px solid var(--line) } td:first-child { white-space: nowrap } small { display: block }
b { display: inline-block; width: 5em; color: var(--soft); font-size: .8em }
"""


def welcome(url: str, *, asks_for_key: bool) -> HTMLResponse:
    """Where to go from here, and the whole journey in curl; `url` is the address that the visitor used."""
    key = ' -H "Authorization: Bearer $STROP_API_KEY"' if asks_for_key else ""
    places = "".join(f"<tr><td><a href={path}>{path}</a><td>{words}" for path, words in PLACES.items())
    asked = "<p>A key is asked for, which a browser does not send: use the commands with STROP_API_KEY set to it.</p>"
    journey = f"""API={url}/v1
# files: each is answered with an id, mdl_… and dat_…
curl -T model.onnx -X POST "$API/models?name=model.onnx"{key}
curl -T data.npz -X POST "$API/datasets?name=data.npz"{key}
# a job, job_…, and its story until it has ended
curl "$API/jobs" -H "Content-Type: application/json"{key} \\
     -d '{{"model": "mdl_…", "data": {{"calibration": "dat_…"}},
          "goal": {{"minimize": "latency"}}, "limits": {{"accuracy_drop": 0.01}}}}'
curl -N "$API/jobs/job_…/events"{key}
# what it found
curl -o faster.onnx "$API/jobs/job_…/model"{key}
curl -o report.html -H "Accept: text/html" "$API/jobs/job_…/report"{key}"""
    command = f"strop optimize model.onnx --data data.npz --max-drop 0.01 -o faster.onnx --url {url}"
    return _page(
        "<h1>Strop</h1><p>An ONNX model in, a faster one out, with the evidence.</p>"
        f"{asked if asks_for_key else ''}<table>{places}</table>"
        f"<h2>In one command</h2><pre>{html.escape(command)}</pre>"
        f"<h2>With curl</h2><pre>{html.escape(journey, quote=False)}</pre>"
        "<p class=soft><code>data.npz</code> holds one array for each input of the model, samples along the first "
        "axis, and <code>labels</code> if there are any.</p>"
    )


def doors(contract: dict[str, Any]) -> HTMLResponse:
    """The contract as a table for each resource."""
    sections = "".join(f"<h2>{title}</h2><table>{_rows(contract, tag)}</table>" for tag, title in SECTIONS.items())
    return _page(
        "<h1>Strop over HTTP</h1><p><a href=/>Where to begin</a> · the full contract is "
        "<a href=/openapi.json>openapi.json</a> · the steps a job may take are at <a href=/v1/steps>/v1/steps</a> · "
        f"what may go wrong is at <a href=/v1/problems>/v1/problems</a></p>{sections}"
    )


def _rows(contract: dict[str, Any], tag: str) -> str:
    return "".join(
        f"<tr><td><b>{method.upper()}</b> <code>{html.escape(path)}</code>"
        f"<td>{_marked(door.get('description', ''))}{''.join(map(_parameter, door.get('parameters', [])))}"
        for path, methods in contract["paths"].items()
        for method, door in methods.items()
        if tag in door["tags"]
    )


def _parameter(parameter: dict[str, Any]) -> str:
    if parameter["in"] == "path":
        return ""
    words = _marked(parameter.get("description", ""))
    return f"<small><code>{html.escape(parameter['name'])}</code> ({parameter['in']}) {words}</small>"


def _marked(text: str) -> str:
    """What stands in backticks, set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def _page(content: str) -> HTMLResponse:
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Strop</title>"
        f"<meta name=viewport content='width=device-width, initial-scale=1'><style>{STYLE}</style>"
        f"<main>{content}</main></html>",
        headers={"Content-Security-Policy": POLICY, "Vary": "Accept"},
    )

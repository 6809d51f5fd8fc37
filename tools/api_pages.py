"""The description of the API as a page of the documentation's site, and as a file beside it.

The page says in Markdown what ``GET /openapi.json`` says in JSON; both are made of the routes as
they are declared. What would show OpenAPI in a browser by itself is a script of others, or comes
from their servers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tortxd.gateway.control.openapi import document
from tortxd.gateway.control.routes import ENDPOINTS

Json = dict[str, Any]

PAGE = "http-reference.md"
FILE = "openapi.json"
MARK = "<!-- The description of the API comes here"
"""Where the page's own text ends: what follows is for whoever reads it in a clone."""


def described(api: Json) -> str:
    """The description in Markdown, below the page's title."""
    return "\n\n".join(
        [
            f"The same for programs is [OpenAPI {api['openapi']}]({FILE}); a running gateway gives "
            "it at `/openapi.json`.",
            *_routes(api),
            "## Errors of every route",
            "With the header `Tortxd-Error`, whose value is the code, and an [Error](#error).",
            _table(("status", "code"), _errors_of_all(api)),
            "## Schemas",
            *_schemas(api),
        ]
    )


# --- routes ---------------------------------------------------------------------------------------


def _routes(api: Json) -> Iterator[str]:
    for tag in api["tags"]:
        yield f"## For {tag['name']}"
        yield tag["description"]
        for path, item in api["paths"].items():
            methods = [name for name in item if name != "parameters"]
            if tag["name"] in item[methods[0]]["tags"]:
                shown = "ANY" if len(methods) > 3 else methods[0].upper()
                yield f"### {shown} {path}"
                yield from _route(api, item, item[methods[-2 if len(methods) > 3 else 0]])


def _route(api: Json, item: Json, operation: Json) -> Iterator[str]:
    yield operation["summary"] + "."
    if "description" in operation:
        yield operation["description"].strip()
    if parameters := item.get("parameters"):
        yield _table(
            ("parameter", "in", "meaning"), [_parameter_row(parameter) for parameter in parameters]
        )
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        if "schema" in body:
            yield f"The request's body, `{media}`, which may be left out:"
            yield _code(example(api, body["schema"]))
    yield _table(("status", "answer"), _answers(api, operation["responses"]))
    if events := _events(operation):
        yield "Each `event` with what it has in `data`: " + ", ".join(events) + "."
    yield "Beside these, [errors of every route](#errors-of-every-route)."
    for response in operation["responses"].values():
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        if "$ref" in schema:
            yield "For example:"
            yield _code(example(api, schema))
            break


def _parameter_row(parameter: Json) -> tuple[str, ...]:
    needed = ", needed" if parameter["required"] else ""
    return f"`{parameter['name']}`", parameter["in"] + needed, parameter["description"]


def _answers(api: Json, responses: Json) -> Iterator[tuple[str, str]]:
    """A row for each answer that not every route may give."""
    for status, response in responses.items():
        found = _resolved(api, response)
        of_all = api["components"]["responses"].get(f"Error{status}", {})
        if found["description"] != of_all.get("description"):
            kinds = [
                _type(body["schema"]) if media == "application/json" else f"`{media}`"
                for media, body in found.get("content", {}).items()
                if body and "allOf" not in body["schema"]  # an error
            ]
            text = f"{found['description']} {' or '.join(kinds)}".strip()
            yield ("otherwise" if status == "default" else f"`{status}`"), text


def _events(operation: Json) -> list[str]:
    content = operation["responses"].get("200", {}).get("content", {})
    events = content.get("text/event-stream", {}).get("x-events", {})
    return [f"`{name}` ({_type(schema)})" for name, schema in events.items()]


def _errors_of_all(api: Json) -> Iterator[tuple[str, str]]:
    for name, response in api["components"]["responses"].items():
        status = name.removeprefix("Error")
        if status.isdecimal():
            yield f"`{status}`", response["description"]


# --- schemas --------------------------------------------------------------------------------------


def _schemas(api: Json) -> Iterator[str]:
    for name, schema in api["components"]["schemas"].items():
        yield f"### {name}"
        if "description" in schema:
            yield schema["description"]
        if rows := list(_members(schema)):
            yield _table(("member", "type", "meaning"), rows)


def _members(schema: Json, before: str = "") -> Iterator[tuple[str, str, str]]:
    """A row for each member, those of members without a name of their own among them."""
    for name, inner in schema.get("properties", {}).items():
        optional = "" if name in schema.get("required", ()) else ", may be absent"
        yield f"`{before}{name}`", _type(inner) + optional, _meaning(inner)
        yield from _members(inner, f"{before}{name}.")
        yield from _members(inner.get("items", {}), f"{before}{name}[].")


def _meaning(schema: Json) -> str:
    """What a member says of itself, or of what it is where it is not null."""
    told = (one.get("description", "") for one in (schema, *schema.get("anyOf", ())))
    return next(filter(None, told), "")


def _type(schema: Json) -> str:
    """What a value is, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "allOf" in schema:
        return _type(schema["allOf"][0])
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("type", "anything"))


def example(api: Json, schema: Json) -> Any:
    """A value that a schema allows, with what it gives as examples."""
    found = _resolved(api, schema)
    if "examples" in found:
        return found["examples"][0]
    if "const" in found:
        return found["const"]
    if "enum" in found:
        return found["enum"][0]
    if "anyOf" in found:
        return example(api, found["anyOf"][0])
    if found.get("type") == "array":
        return [example(api, found["items"])]
    if found.get("type") == "object":
        members = found.get("properties", {})
        return {name: example(api, members[name]) for name in found.get("required", ())}
    by_type = {"string": "...", "boolean": True, "integer": found.get("maximum", 1), "number": 1.5}
    return by_type.get(found.get("type", ""))


def _resolved(api: Json, value: Json) -> Json:
    while "$ref" in value:
        _, _, kind, name = value["$ref"].split("/")
        value = api["components"][kind][name]
    return value


# --- Markdown -------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _code(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=2)}\n```"


# --- what MkDocs calls ----------------------------------------------------------------------------


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the file."""
    content = json.dumps(document(ENDPOINTS), indent=2) + "\n"
    files.append(File.generated(config, FILE, content=content))


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the description into its page."""
    if page.file.src_uri != PAGE:
        return markdown
    before, mark, _clone = markdown.partition(MARK)
    if not mark:
        raise ValueError(f"{PAGE} does not say where the description goes")
    return before + described(document(ENDPOINTS)) + "\n"

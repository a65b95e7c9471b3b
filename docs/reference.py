"""Writes the generated parts of the reference from what they are about, when the site is built.

A page has a line `<!-- generated: NAME -->` for each part; MkDocs calls `on_page_markdown`, a test
calls `complete`.
"""

import argparse
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from inspect import getsource
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import sqlalchemy as sa
import yaml

PROJECT = Path(__file__).parents[1]
CONF = PROJECT / "conf"
MARK = re.compile(r"<!-- generated: (\w+) -->")
Json = dict[str, Any]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Complete a page; MkDocs calls it for each."""
    return complete(markdown)


def complete(markdown: str) -> str:
    """Put the generated parts into a page.

    Raises:
        KeyError: There is no such part.
    """
    return MARK.sub(lambda mark: PARTS[mark[1]](), markdown)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table; what would end a cell is escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n\n"


def code(value: object) -> str:
    """Write a value as code; nothing for what is empty."""
    return f"`{value}`" if value not in (None, "") else ""


# JSON schemas: Pydantic writes them of parameters, FastAPI of requests and answers


def resolved(schema: Json, definitions: Json) -> Json:
    """Follow a reference."""
    reference = schema.get("$ref")
    return {**definitions[reference.rsplit("/", 1)[1]], **schema} if reference else schema


def type_in_words(schema: Json, definitions: Json) -> str:
    """Say what a value may be, with its limits."""
    schema = resolved(schema, definitions)
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " or ".join(dict.fromkeys(type_in_words(option, definitions) for option in options))
    if "const" in schema or "enum" in schema:
        return ", ".join(code(value) for value in schema.get("enum", [schema.get("const")]))
    if "properties" in schema:
        return schema.get("title", "object")
    kind = schema.get("format") or schema.get("type", "any")
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"list of {type_in_words(schema['items'], definitions)}"
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    said = [f"{sign} {schema[name]}" for name, sign in limits.items() if name in schema]
    return " ".join([kind, ", ".join(said)]).strip()


def models_of(schema: Json, definitions: Json) -> list[Json]:
    """Find the groups of fields that a value may be, or hold."""
    schema = resolved(schema, definitions)
    if "properties" in schema:
        return [schema]
    items, values = schema.get("items"), schema.get("additionalProperties")
    inside = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    inside += [held for held in (items, values) if isinstance(held, dict)]
    return [model for option in inside for model in models_of(option, definitions)]


def described(
    fields: Mapping[str, Json], definitions: Json, given: Mapping[str, Any] = MappingProxyType({})
) -> list[tuple[str, str, str, str]]:
    """Write rows on fields: name, what it may be, its value, what it means."""
    return [
        (
            code(name),
            type_in_words(part, definitions),
            _value(part, given, name),
            part.get("description", ""),
        )
        for name, part in fields.items()
    ]


def groups(name: str, schema: Json, definitions: Json, given: Mapping[str, Any]) -> Iterator[str]:
    """Write a group of parameters and those within it, with the values that `given` has."""
    yield f"{'###' if '.' in name else '##'} `{name}`\n\n"
    yield schema.get("description", "").split("\n\n")[0] + "\n\n"
    own: dict[str, Json] = schema["properties"]
    within = {field: models_of(part, definitions) for field, part in own.items()}
    rows = described({f: part for f, part in own.items() if not within[f]}, definitions, given)
    yield table(("parameter", "value", "in `conf/base`", "meaning"), rows) if rows else ""
    for field, found in within.items():
        # each of a list or a mapping, or one of several kinds, has values of its own
        is_one = "properties" in resolved(own[field], definitions)
        for model in found:
            kind = model["properties"].get("kind", {}).get("const")
            title = f"{name}.{field}" + (f" ({kind})" if kind else "")
            yield from groups(
                title, model, definitions, (given.get(field) if is_one else None) or {}
            )


def _value(part: Json, given: Mapping[str, Any], field: str) -> str:
    """Write what `conf/base` says, or the default; nothing where each has to say it."""
    if field not in given and "default" not in part:
        return ""
    return code(json.dumps(given.get(field, part.get("default")), default=str, ensure_ascii=False))


def parameters() -> str:
    """Write the parameters from their models, with the values of `conf/base`."""
    from wine_quality.pipelines.parameters import ProjectParameters

    given: Json = {}
    for path in sorted((CONF / "base").glob("parameters_*.yml")):
        given |= yaml.safe_load(path.read_text())
    schema = ProjectParameters.model_json_schema()
    definitions = schema["$defs"]
    written = (
        groups(name, resolved(part, definitions), definitions, given.get(name, {}))
        for name, part in schema["properties"].items()
    )
    return "".join(line for group in written for line in group)


def service_settings() -> str:
    """Write the variables of the service from its settings."""
    from wine_quality.serving.settings import PREFIX, ServiceSettings

    # made where the service is started
    made = {
        "tracking_uri": "sqlite:///data/mlflow.db",
        "log_url": "sqlite:///data/inference_log.db",
    }
    fields = ServiceSettings.model_json_schema()["properties"]
    rows = (
        (code(PREFIX + name.upper()), *about)
        for name, (_, *about) in zip(fields, described(fields, {}, made), strict=True)
    )
    return table(("variable", "value", "default", "meaning"), rows)


def backend_settings() -> str:
    """Write the settings of the backends that have a short name."""
    from wine_quality.traffic.backends import BACKENDS

    written = []
    for name, backend in BACKENDS.items():
        schema = backend.settings_type.model_json_schema() if backend.settings_type else {}
        if schema.get("properties"):
            rows = described(schema["properties"], schema.get("$defs", {}))
            written.append(f"### Settings of `{name}`\n\n")
            written.append(table(("setting", "value", "default", "meaning"), rows))
    return "".join(written)


def orchestration_settings() -> str:
    """Write what `orchestration.yml` may say."""
    from wine_quality.orchestration.settings import OrchestrationSettings

    schema = OrchestrationSettings.model_json_schema()
    return "".join(groups("orchestration", schema, schema["$defs"], {}))


def variables_of_runs() -> str:
    """Write the variables that the configuration reads."""
    # a default may hold another variable
    pattern = re.compile(r"(\w+): .*?\$\{oc\.env:(\w+)(?:,((?:[^{}]|\{[^{}]*\})*))?\}")
    rows = dict.fromkeys(
        (code(variable), code(path.parent.name), code(f"{path.name}: {key}"), code(default))
        for path in sorted(CONF.glob("*/*.yml"))
        for key, variable, default in pattern.findall(path.read_text())
    )
    return table(("variable", "environment", "where", "default"), rows)


def recipes() -> str:
    """List the recipes of the justfile."""
    dumped = subprocess.run(
        ["just", "--unstable", "--dump", "--dump-format", "json"],  # noqa: S607
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = (
        (
            code(" ".join([name, *(p["name"].upper() for p in recipe["parameters"])])),
            recipe["doc"] or "",
        )
        for name, recipe in sorted(json.loads(dumped)["recipes"].items())
    )
    return table(("recipe", "what it does"), rows)


def serving_commands() -> str:
    """Write the service's commands from their parser."""
    from wine_quality.serving.__main__ import _parser

    return _helps(_parser())


def orchestration_commands() -> str:
    """Write the commands of the orchestration from their parser."""
    from wine_quality.orchestration.__main__ import _parser

    return _helps(_parser())


def _helps(parser: argparse.ArgumentParser) -> str:
    written = []
    (choices,) = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in choices.items():
        command.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=90)
        written.append(f"### `{name}`\n\n```text\n{command.format_help()}```\n\n")
    return "".join(written)


def _openapi() -> Json:
    from wine_quality.serving.app import create_app

    return create_app().openapi()


def routes() -> str:
    """Write the service's routes from its OpenAPI document."""
    from wine_quality.serving.routes import ROUTES

    written = []
    for path, methods in _openapi()["paths"].items():
        for method, route in methods.items():
            declared = ROUTES.find(method.upper(), path)
            scope = f" (scope `{declared.scope}`)" if declared and declared.scope else ""
            written.append(f"### `{method.upper()} {path}`\n\n{route['summary']}{scope}\n\n")
            body = route.get("requestBody", {}).get("content", {})
            if body:
                sent = ((code(kind), _link(part)) for kind, part in body.items())
                written.append(table(("body", "form"), sent))
            if "parameters" in route:
                headers = ((code(p["name"]), p["description"]) for p in route["parameters"])
                written.append(table(("header", "meaning"), headers))
            answers = (
                (
                    str(status),
                    answer["description"],
                    ", ".join(_link(content) for content in answer.get("content", {}).values()),
                )
                for status, answer in sorted(route["responses"].items(), key=lambda it: str(it[0]))
            )
            written.append(table(("status", "meaning", "answer"), answers))
    return "".join(written)


def _link(content: Json) -> str:
    name = content.get("schema", {}).get("$ref", "").rsplit("/", 1)[-1]
    return f"[{name}](#{name.lower()})" if name else "text"


def forms() -> str:
    """Write the forms of requests and answers from the OpenAPI document."""
    definitions = _openapi()["components"]["schemas"]
    written = []
    for name, schema in definitions.items():
        written.append(f"### {name}\n\n{schema.get('description', '')}\n\n")
        needed = schema.get("required", ())
        rows = [
            (
                code(field) + ("" if field in needed else " (optional)"),
                type_in_words(part, definitions),
                part.get("description", ""),
            )
            for field, part in schema.get("properties", {}).items()
        ]
        written.append(table(("field", "value", "meaning"), rows) if rows else "")
    return "".join(written)


def catalog() -> str:
    """Write the datasets of `conf/base`, with the comments that stand above them."""
    written = []
    for path in sorted((CONF / "base").glob("catalog_*.yml")):
        text = path.read_text()
        comments = re.findall(r'^((?:# .*\n)+)"?([^\s"]+)"?:$', text, re.MULTILINE)
        about = {name: " ".join(re.findall(r"# (.*)", comment)) for comment, name in comments}
        rows = (
            (code(name), code(entry["type"]), _place(entry), about.get(name, ""))
            for name, entry in yaml.safe_load(text).items()
            if not name.startswith("_")
        )
        title = path.stem.removeprefix("catalog_").replace("_", " ").capitalize()
        written.append(f"## {title}\n\n")
        written.append(table(("dataset", "type", "place", "what it is"), rows))
    return "".join(written)


def _place(entry: Json) -> str:
    inner = entry.get("dataset")
    place = next((entry[k] for k in ("filepath", "path", "folder") if k in entry), None)
    if place is None and isinstance(inner, dict):
        return _place(inner)
    if place is None:
        return f"database `{entry['credentials']}`" if "credentials" in entry else ""
    return code(re.sub(r"\$\{(?:project_path:)?(?:\$\{globals:root\}|globals:root)\}?/", "", place))


def log_tables() -> str:
    """Write the tables of the inference log."""
    from wine_quality.serving import log_schema

    return _tables(log_schema)


def monitoring_tables() -> str:
    """Write the tables of monitoring."""
    from wine_quality.drift import store_schema

    return _tables(store_schema)


def _tables(module: ModuleType) -> str:
    """Write a schema's tables, with the comments that stand above their columns."""
    parts = re.split(r'sa\.Table\(\s*"(\w+)"', getsource(module))[1:]
    sources = dict(zip(parts[::2], parts[1::2], strict=True))
    written = []
    for name, found in module.METADATA.tables.items():
        comments = re.findall(r'((?:# .*\n\s*)+)sa\.Column\(\s*"(\w+)"', sources[name])
        about = {column: " ".join(re.findall(r"# (.*)", comment)) for comment, column in comments}
        rows = (_column(column, about.get(column.name, "")) for column in found.columns)
        written.append(f"### `{name}`\n\n")
        written.append(table(("column", "type", "", "what it is"), rows))
    return "".join(written)


def _column(column: sa.Column[Any], about: str) -> tuple[str, str, str, str]:
    notes = ["key"] if column.primary_key else [] if column.nullable else ["not null"]
    notes += [f"of `{key.column.table.name}`" for key in column.foreign_keys]
    return (
        code(column.name),
        str(getattr(column.type, "impl", column.type)),
        ", ".join(notes),
        about,
    )


def message() -> str:
    """Write an example of what a webhook is sent."""
    from wine_quality.drift.alerts import Alert, AlertSettings
    from wine_quality.drift.incident_store import Notification
    from wine_quality.drift.incidents import Incident
    from wine_quality.drift.messages import FORMAT_VERSION, message_of

    began, seen = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 5, 6, 0, 1, tzinfo=UTC)
    alert = Alert(
        verdict="data_quality", model_version="3", subject="pH", segment="all",
        found=began, since=began, since_earliest=began, since_latest=began, resolved=None,
        n=812, reason="40 % of 812 values are missing", certain=True,
    )  # fmt: skip
    incident = Incident(12, "3", "pH: data quality", seen, None, (alert,))
    notification = Notification(31, incident, "desk", "opened", seen, None, None)
    settings = AlertSettings(page="https://files.example/wines/monitoring.html")
    said = message_of(notification, lambda _: "not known, no wine since then is labelled", settings)
    head = {"version": FORMAT_VERSION, "sent_at": seen.isoformat(), "title": said.title}
    return f"```json\n{json.dumps(head | said.content, indent=2, ensure_ascii=False)}\n```\n"


def changelog() -> str:
    """Give the changes, with links that lead to the pages from here."""
    return (PROJECT / "CHANGELOG.md").read_text().replace("](docs/", "](")


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        parameters, orchestration_settings, service_settings, backend_settings, variables_of_runs,
        recipes, serving_commands, orchestration_commands, routes, forms, catalog, log_tables,
        monitoring_tables, message, changelog,
    )
}  # fmt: skip

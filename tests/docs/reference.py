"""The reference pages of docs/, made from the code: ``python -m tests.docs.reference``.

Models become tables by their JSON schema, errors by the tree of classes; commands are those of
`tests.reference.commands`. The pages are committed, so that they can be read without building the
site; a test holds them to this.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from inspect import getdoc
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import client
import common
import server
from client.config import ClientConfig
from common.errors import FedpruneError, PolicyError
from common.plan import Plan
from common.schema import FeatureSchema
from common.sections import REGISTRIES
from common.trail.events import EVENTS
from server.home import Settings
from server.model_file.catalogue import CHAPTERS, TESTING
from server.model_file.checks import TESTS
from server.model_file.owner import OwnerFacts
from server.model_file.shapes import FORMAT

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
NOTE = "Made from the code by `make docs`: change the code, not this page."


def pages() -> dict[str, str]:
    """Return the Markdown of each page by its file's name."""
    return {
        "plan.md": _plan(),
        "schema.md": _schema(),
        "settings.md": _settings(),
        "events.md": _events(),
        "errors.md": _errors(),
        "model-file.md": _model_file(),
    }


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", *parts, f"*{NOTE}*")) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _prose(described: str) -> str:
    """Return a docstring as Markdown: its code has two backticks, and no headings follow."""
    return re.sub(r"``(.+?)``", r"`\1`", described, flags=re.DOTALL)


# Plan, schema and settings.

SCHEMA = FeatureSchema.__name__
"""Has a page of its own, to which the plan's page leads."""


def _plan() -> str:
    lead = (
        "What a federation agrees on: one TOML file, approved by its hash. Unknown keys are errors."
    )
    return _page("Plan", lead, *_sections(Plan, "##", "plan.toml"))


def _schema() -> str:
    lead = (
        "What a table holds: a TOML file, or `[schema]` of a plan. Bounds, values and codes are"
        " declared in public and never taken from rows."
    )
    return _page("Schema", lead, *_sections(FeatureSchema, "##", "SCHEMA.toml"))


def _settings() -> str:
    lead = (
        "Each side keeps a file of its own beside the plan. No setting stands in both, and a key"
        " that is not listed is refused."
    )
    client = _sections(ClientConfig, "##", "client.toml")
    return _page("Settings", lead, *client, *_sections(Settings, "##", "server.toml"))


def _sections(model: type[BaseModel], mark: str, file: str) -> Iterator[str]:
    """Yield a heading, the docstring and a table for a model and each that it holds."""
    whole = model.model_json_schema(by_alias=True)
    named = whole.pop("$defs", {})
    titles = {name: _title(path) for name, path in _paths(whole, named).items()}
    if model is not FeatureSchema:
        titles.pop(SCHEMA, None)
    for title, schema in {file: whole, **{titles[name]: named[name] for name in titles}}.items():
        yield f"{mark} {title if schema is whole else f'{title} in {file}'}"
        if described := schema.get("description"):
            yield _prose(described)
        required = schema.get("required", ())
        rows = []
        for key, field in schema["properties"].items():
            default = "needed" if key in required else _default(field.get("default"))
            rows.append((f"`{key}`", _words(key, field, titles, file), default))
        yield _table(("key", "takes", "default"), rows)


def _title(path: str) -> str:
    return f"`{path}`"


def _paths(whole: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, str]:
    """Return the TOML heading of each model that ``whole`` holds, in the order of the file."""
    found = dict[str, str]()

    def visit(schema: Mapping[str, Any], above: str) -> None:
        for key, field in schema.get("properties", {}).items():
            held = re.findall(r"'\$ref': '#/\$defs/(\w+)'", str(field))
            path = f"{above}.{key}".strip(".")
            for name in held:
                kind = named[name]["properties"].get("kind", {}).get("const")
                said = f"[[{path}]]" if field.get("type") == "array" else f"[{path}]"
                found[name] = f'{said} kind = "{kind}"' if kind else said
                if name != SCHEMA:
                    visit(named[name], path)

    visit(whole, "")
    return found


def _slug(title: str) -> str:
    """Return a heading's anchor, as both the site and a forge's Markdown make it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def _words(key: str, field: Mapping[str, Any], titles: Mapping[str, str], file: str = "") -> str:
    """Say what a key takes."""
    if key in REGISTRIES and field.get("type") == "string":
        return ", ".join(f"`{name}`" for name in REGISTRIES[key].names)
    if (choices := field.get("anyOf") or field.get("oneOf")) is not None:
        said = (_words("", one, titles, file) for one in choices if one.get("type") != "null")
        return " or ".join(dict.fromkeys(said))
    if (reference := field.get("$ref")) is not None:
        title = titles.get(reference.rsplit("/", 1)[-1])
        if title is None:
            return "a shipped schema's name, a file's beside the plan, or [a schema](schema.md)"
        return f"[{title}](#{_slug(f'{title} in {file}')})"
    if (
        values := field.get("enum") or ([field["const"]] if "const" in field else None)
    ) is not None:
        return ", ".join(f"`{_literal(one)}`" for one in values)
    return _kind(field, titles, file)


def _kind(field: Mapping[str, Any], titles: Mapping[str, str], file: str) -> str:
    """Say what a key takes that is no choice among values or models."""
    said = "anything"
    match field.get("type"):
        case "array":
            said = f"list of {_words('', field.get('items', {}), titles, file)}"
        case "object":
            forms = [*field.get("patternProperties", {}).values()]
            held = field.get("additionalProperties") or (forms[0] if forms else {})
            said = f"table of {_words('', held, titles, file)}"
        case "boolean":
            said = "true or false"
        case "integer" | "number" as kind:
            said = f"{'whole ' * (kind == 'integer')}number{_range(field)}"
        case "string":
            said = "path" if field.get("format") == "path" else f"text{_form(field)}"
    return said


def _range(field: Mapping[str, Any]) -> str:
    bounds = {
        "from": field.get("minimum"),
        "above": field.get("exclusiveMinimum"),
        "to": field.get("maximum"),
        "below": field.get("exclusiveMaximum"),
    }
    said = [f"{word} {bound:,g}" for word, bound in bounds.items() if bound is not None]
    return f" {' '.join(said)}" if said else ""


def _form(field: Mapping[str, Any]) -> str:
    return f" of the form `{field['pattern']}`" if "pattern" in field else ""


def _default(value: object) -> str:
    if value is None:
        return "none"
    return "its own defaults" if isinstance(value, dict) and value else f"`{_literal(value)}`"


def _literal(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case float():
            return f"{value:g}"
        case list():
            return f"[{', '.join(map(_literal, value))}]"
    return str(value)


# Events and errors.


def _events() -> str:
    lead = (
        "What a line of an [audit log](../audit-log.md) can tell. Each line also has the fields"
        " `version`, `sequence`, `time`, `role`, `name`, `event`, `previous` and `signature`."
    )
    parts = []
    for name in EVENTS.names:
        event = EVENTS.require(name)
        fields = event.model_json_schema()["properties"]
        parts += [f"## {name}", _prose(getdoc(event) or "")]
        rows = [(f"`{key}`", _words("", field, {})) for key, field in fields.items()]
        if rows:
            parts.append(_table(("field", "holds"), rows))
    return _page("Audit events", lead, *parts)


def _errors() -> str:
    lead = (
        "An error is one line that names the value, the bound and the remedy; the process ends with"
        " the exit code. Of an institution's refusal the server hears the reason in the third"
        " column and nothing else; `refused` is all it hears where records are behind it. What exit"
        " codes mean in all: [commands](../commands.md#exit-codes)."
    )
    rows = [
        (
            f"{'· ' * depth}`{kind.__name__}`",
            str(kind.exit_code),
            kind.reason if issubclass(kind, PolicyError) else "",
            _prose((getdoc(kind) or "").splitlines()[0]),
        )
        for depth, kind in _tree(FedpruneError, 0)
    ]
    return _page("Errors", lead, _table(("error", "exit", "told", "when"), rows))


def _model_file() -> str:
    lead = (
        "What every [model file](../model-file.md) holds. In `model-card.json` a fact stands at"
        " `chapters.CHAPTER.facts.KEY`: `state` is `told`, with a `value` (text, number, list, or a"
        " table of `columns` and `rows`), or `missing`, with the `remedy`. `missing` lists those"
        f" once more, `checks` has the tests. `format` is {FORMAT}, and is raised whenever a reader"
        " of the last one would misread it."
    )
    parts = []
    for part in CHAPTERS:
        rows = [(f"`{slot.key}`", slot.label, slot.remedy) for slot in part.slots]
        parts += [f"## `{part.key}`: {part.title}", part.words]
        parts.append(_table(("key", "fact", "where it is missing, needs"), rows))
        parts.append(f"Serves, in the US: {part.rules.us}. In the EU: {part.rules.eu}.")
    tests = [(f"`{key}`", title, question) for key, (title, question, _) in TESTS.items()]
    parts += ["## Tests", TESTING, _table(("key", "test", "asks"), tests)]
    parts += _sections(OwnerFacts, "##", "FACTS.toml")
    return _page("Model file", lead, *parts)


def _tree(kind: type[FedpruneError], depth: int) -> Iterator[tuple[int, type[FedpruneError]]]:
    if depth == 0:
        _import_all()
    yield depth, kind
    for one in sorted(kind.__subclasses__(), key=lambda one: one.__name__):
        if one.__module__.partition(".")[0] in ("common", "client", "server"):
            yield from _tree(one, depth + 1)


def _import_all() -> None:
    """Import whatever may define an error."""
    for package in (common, client, server):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()

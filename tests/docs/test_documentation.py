"""The documentation: its links, what it names in the code, and the pages that are generated."""

import ast
import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from docs.reference import MARK, PARTS, complete
from wine_quality.drift.alerts import UNJUDGED
from wine_quality.drift.messages import FORMAT_VERSION
from wine_quality.drift.store_schema import METADATA as MONITORING_TABLES
from wine_quality.drift.verdicts import COPIES
from wine_quality.drift.vocabulary import ALARMS
from wine_quality.drift.windows import OF_VERSIONS
from wine_quality.parameters import Parameters
from wine_quality.pipelines.parameters import ProjectParameters
from wine_quality.serving.log_schema import METADATA as LOG_TABLES
from wine_quality.serving.routes import ROUTES
from wine_quality.serving.settings import ServiceSettings
from wine_quality.traffic.scenarios import Scenario

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
WRITTEN = [*DOCS.rglob("*.md"), *(PROJECT / f"{n}.md" for n in ("README", "CONTRIBUTING"))]
MARKDOWN = MarkdownIt("commonmark").enable("table")
# other files that name pages, as messages to a person or for whoever reads the code
NAMING = {"src": "py", "conf": "yml", "benchmarks": "py", "notebooks": "ipynb", "tests": "py"}


@pytest.fixture(scope="module")
def texts() -> dict[Path, str]:
    """All pages, complete."""
    return {path: complete(path.read_text()) for path in WRITTEN}


@pytest.fixture(scope="module")
def reference(texts) -> Callable[[str], str]:
    """Gives a page of the reference by its name."""
    return lambda name: texts[DOCS / f"reference/{name}.md"]


def tokens(text: str) -> Iterator[Token]:
    for token in MARKDOWN.parse(text):
        yield token
        yield from token.children or ()


@functools.cache
def links(text: str) -> list[str]:
    """What a page links to in this repository, pictures included."""
    targets = [str(t.attrs.get("href") or t.attrs.get("src") or "") for t in tokens(text)]
    return [target for target in targets if target and "://" not in target]


@functools.cache
def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as MkDocs makes them."""
    found = MARKDOWN.parse(text)
    titles = [
        "".join(child.content for child in following.children or ())
        for token, following in pairwise(found)
        if token.type == "heading_open"
    ]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", t).strip().lower()) for t in titles}


def broken(texts: dict[Path, str], place: Path) -> list[str]:
    """The links of a page that lead nowhere."""

    def leads_nowhere(link: str) -> bool:
        path, _, anchor = link.partition("#")
        target = (place.parent / path).resolve() if path else place
        if target not in texts:
            return bool(anchor) or not target.exists()
        return bool(anchor) and anchor not in anchors(texts[target])

    return [link for link in links(texts[place]) if leads_nowhere(link)]


def test_every_link_leads_somewhere(texts) -> None:
    assert {place.name: found for place in texts if (found := broken(texts, place))} == {}
    assert sum(len(links(text)) for text in texts.values()) > 200


@pytest.mark.parametrize("link", ["none.md", "a.md#none", "#none", "none.png", "../src#anchor"])
def test_a_broken_link_is_noticed(link) -> None:
    here, there = DOCS / "here.md", DOCS / "a.md"
    texts = {
        here: f"# Here\n\n[a]({link}), [b](a.md#some-heading), [c](#here)",
        there: "## Some `heading`!",
    }
    assert broken(texts, here) == [link]


def test_pages_that_messages_and_comments_name_exist(texts) -> None:
    named = {
        name: path
        for folder, ending in NAMING.items()
        for path in (PROJECT / folder).rglob(f"*.{ending}")
        for name in re.findall(r"docs/[\w/-]+\.md", path.read_text())
    }
    assert len(named) > 10
    assert [name for name in named if PROJECT / name not in texts] == []


def test_every_page_stands_once_in_the_navigation(texts) -> None:
    navigation = (PROJECT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = Counter(re.findall(r"[\w/-]+\.md", navigation))
    assert listed == Counter(str(p.relative_to(DOCS)) for p in texts if DOCS in p.parents)


def defined(file: Path) -> set[str]:
    """Functions, classes, methods as `Class.method`, and names that are assigned at the top."""
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(f"{node.name}.{part.name}")
        targets = node.targets if isinstance(node, ast.Assign) else ()
        found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def test_the_map_of_the_code_names_what_is_there() -> None:
    source = PROJECT / "src/wine_quality"
    page = (DOCS / "reference/code-map.md").read_text()
    packages, *ways = page.split("\n## ")
    for cell in re.findall(r"^\| (`.*?) \|", packages, re.MULTILINE):
        assert all((source / name).is_dir() for name in re.findall(r"`(\w+)`", cell)), cell
    rows = [row for way in ways for row in re.findall(r"^\| .* \| (`.*) \| (`.*) \|$", way, re.M)]
    assert len(rows) > 30
    for files, names in rows:
        known = set().union(*(defined(source / file) for file in re.findall(r"`(.*?)`", files)))
        assert set(re.findall(r"`(.*?)`", names)) <= known, (files, names)


def test_the_runbook_says_what_to_do_at_each_kind_of_alert() -> None:
    page = (DOCS / "how-to/runbook.md").read_text()
    assert set(ALARMS) <= set(re.findall(r"^## (\w+)$", page, re.MULTILINE))
    rows = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert {*UNJUDGED, *OF_VERSIONS, COPIES} <= rows


def parameter_names(model: type[Parameters], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Group and name of each parameter."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Parameters):
            yield from parameter_names(kind, f"{prefix}.{name}" if prefix else name)
        else:
            yield prefix, name


def test_every_generated_part_stands_on_one_page() -> None:
    marks = Counter(mark for path in WRITTEN for mark in MARK.findall(path.read_text()))
    assert marks == dict.fromkeys(PARTS, 1)


def test_the_reference_has_every_parameter(reference) -> None:
    sections = reference("parameters").split("\n##")
    about = {section.partition("`")[2].partition("`")[0]: section for section in sections}
    names = list(parameter_names(ProjectParameters))
    assert len(names) > 80
    nested = {name.partition(".")[2].partition(" ")[0] for name in about}
    missing = [
        (group, name)
        for group, name in names
        if f"| `{name}` |" not in about[group] and f"{group}.{name}".partition(".")[2] not in nested
    ]
    assert missing == []
    for kind in get_args(get_args(Scenario)[0]):
        (tag,) = get_args(kind.model_fields["kind"].annotation)
        assert f"serving_simulation.drift.scenarios ({tag})" in about


def test_the_reference_has_every_variable_route_and_dataset(reference) -> None:
    variables = reference("environment-variables")
    assert all(f"`WINE_QUALITY_{n.upper()}`" in variables for n in ServiceSettings.model_fields)
    read = {
        variable
        for path in (PROJECT / "conf").rglob("*.yml")
        for variable in re.findall(r"oc\.env:(\w+)", path.read_text())
    }
    assert all(f"| `{variable}` |" in variables for variable in read)
    documented = [route for route in ROUTES.routes if route.document is not None]
    assert all(f"### `{r.method} {r.path}`\n" in reference("rest-api") for r in documented)
    for path in (PROJECT / "conf/base").glob("catalog_*.yml"):
        entries = [name for name in yaml.safe_load(path.read_text()) if not name.startswith("_")]
        assert all(f"| `{name}` |" in reference("catalog") for name in entries)


def test_the_reference_has_every_table_with_its_comments(reference) -> None:
    about = {p.partition("`")[0]: p for p in reference("database").split("\n### `")[1:]}
    for metadata in (LOG_TABLES, MONITORING_TABLES):
        for name, table in metadata.tables.items():
            assert all(f"| `{column.name}` |" in about[name] for column in table.columns)
    assert "seconds since 1970" in about["profile_hours"]


def test_the_reference_shows_a_message_to_a_webhook(reference) -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", reference("contracts"), re.DOTALL)
    message = json.loads(shown)
    assert message["version"] == FORMAT_VERSION
    assert message["incident"]["alerts"][0]["verdict"] in ALARMS


def test_what_builds_the_site_changes_no_version_of_other_packages() -> None:
    def pins(lock: str) -> dict[str, str]:
        text = (PROJECT / f"{lock}.lock").read_text()
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))

    own, everything = pins("requirements-docs"), pins("requirements-all")
    assert {"mkdocs-material", "mkdocstrings-python", "mkdocs-click"} <= own.keys()
    assert len(own.keys() & everything.keys()) > 10
    assert {n: v for n, v in own.items() if everything.get(n, v) != v} == {}
    assert "mkdocs" not in everything

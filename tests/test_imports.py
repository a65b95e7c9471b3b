"""What notebooks and benchmarks import from the project is there: they run too seldom to show."""

import ast
import json
from importlib import import_module
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
FILES = sorted([*PROJECT.glob("notebooks/*.ipynb"), *PROJECT.glob("benchmarks/*.py")])


def source(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def missing(text: str) -> list[str]:
    """Names that are imported from the project's modules and are not there."""
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").split(".")[0] == "wine_quality"]
    return [
        f"{node.module}.{alias.name}"
        for node in ours
        for alias in node.names
        if not is_there(str(node.module), alias.name)
    ]


def is_there(module: str, name: str) -> bool:
    try:
        if hasattr(import_module(module), name):
            return True
        import_module(f"{module}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "wine_quality":
            raise
        return False
    return True


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_imported_from_the_project_is_there(path):
    assert missing(source(path)) == []


def test_what_is_not_there_is_found():
    text = "from wine_quality.wines import INPUTS, VINTAGE\nfrom wine_quality.cellar import cask\n"
    assert missing(text) == ["wine_quality.wines.VINTAGE", "wine_quality.cellar.cask"]
    assert missing("from wine_quality.drift import verdicts\n") == []


def test_monitoring_imports_nothing_that_takes_a_second():
    # scipy.special has the same functions; each run of monitoring would wait for the other
    for path in (PROJECT / "src/wine_quality/drift").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", ())]
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names]
            elif not isinstance(node, ast.Import):
                continue
            assert not any(f"{name}.".startswith("scipy.stats.") for name in names), path

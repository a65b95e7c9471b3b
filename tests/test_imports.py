"""Notebooks and benchmarks import what is there, and commands import what they use.

The former run too seldom to show what is missing, the latter start too often to wait for more.
"""

import ast
import json
import subprocess
import sys
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


# each takes from half a second to nine
SLOW = frozenset(
    {
        *("distributed", "duckdb", "evidently", "jsonschema", "kedro_viz", "matplotlib", "mlflow"),
        *("onnx", "onnxruntime", "optuna", "pandera", "prefect", "pyspark", "scipy.stats"),
        *("skl2onnx", "sklearn", "skops.io", "xgboost"),
    }
)


@pytest.mark.parametrize(
    "module",
    [
        "wine_quality.cli",
        "wine_quality.settings",
        # as each command with a session does, of whichever pipeline
        "wine_quality.pipeline_registry",
        "wine_quality.pipelines.parameters",
        "wine_quality.orchestration",
        "wine_quality.modelling.registry",
        "wine_quality.serving.worker",
    ],
)
def test_what_is_slow_is_imported_where_it_is_used(module):
    code = f"import sys, {module}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert module in found.stdout.split()
    assert SLOW & set(found.stdout.split()) == set()

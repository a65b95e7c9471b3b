"""`--quick`: the tests that need no process, server, registry or training, by what they use."""

import ast
import functools
from pathlib import Path

import pytest
from hypothesis import settings

# fixtures that start, train or register something
HEAVY_FIXTURES = frozenset(
    {
        *("_store_server", "_tracking_server", "empty_tracking_database", "postgres_schema"),
        *("end_process", "free_port", "prefect_server", "run_server", "serve_http"),
        *("start_services", "trained", "real_data", "phone", "run_pipeline"),
        *("kedro_apart", "kedro_command_here", "kedro_here", "load", "start_apart", "whole_run"),
    }
)
# a test that imports one of these, at the top or inside, starts something with it
HEAVY_MODULES = frozenset(
    {
        *("multiprocessing", "subprocess", "playwright", "nbclient", "locust"),
        *("mlflow", "prefect", "distributed", "pyspark", "moto", "evidently", "optuna"),
        "kedro.framework.cli",
        "kedro.framework.session",
        "kedro.framework.startup",
    }
)


@functools.cache
def _heavy_parts(path: Path) -> tuple[frozenset[str], bool]:
    """Functions of a file that import something heavy, and whether its own top does."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    heavy = frozenset(function.name for function in functions if _imports_heavy(function))
    top = ast.Module([node for node in tree.body if node not in functions], [])
    return heavy, _imports_heavy(top)


def _imports_heavy(tree: ast.AST) -> bool:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return any(
        name == heavy or name.startswith(f"{heavy}.") for name in names for heavy in HEAVY_MODULES
    )


def is_quick(item: pytest.Item) -> bool:
    """Tell whether a test, with all its fixtures, uses nothing heavy."""
    if not isinstance(item, pytest.Function):
        return False
    if HEAVY_FIXTURES & set(item.fixturenames):
        return False
    functions, everything = _heavy_parts(item.path)
    (outermost, *_) = item.nodeid.partition("::")[2].partition("[")[0].split("::")
    used = {outermost, *item.fixturenames}
    return not everything and not used & functions


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--quick", action="store_true", help=(__doc__ or "").partition(": ")[2])


def pytest_configure(config: pytest.Config) -> None:
    """Draw few examples: a quick look is no proof."""
    if config.getoption("quick"):
        settings.register_profile("quick", deadline=None, max_examples=10)
        settings.load_profile("quick")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a file that has nothing quick; to import them all takes half a minute."""
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return (
        True if is_test and config.getoption("quick") and _heavy_parts(collection_path)[1] else None
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not quick, where that is asked for."""
    if config.getoption("quick"):
        others = [item for item in items if not is_quick(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if is_quick(item)]

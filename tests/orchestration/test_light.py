"""A run without Prefect pays nothing for it."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
QUESTION = (
    "import sys, wine_quality.settings, wine_quality.orchestration\n"
    "print(sorted({'prefect', 'distributed', 'dask', 'httpx', 'mlflow'} & set(sys.modules)))"
)


def test_the_runners_are_named_without_importing_what_they_use():
    done = subprocess.run(
        [sys.executable, "-c", QUESTION],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "[]\n"

"""The backend that the documentation writes down, and its test, as a team would copy them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[3] / "docs" / "how-to" / "backend.md"
CELLAR = """
import numpy as np

def score(url, wines):
    return np.full(len(wines), 5.5)
"""


@pytest.mark.slow
def test_the_documented_backend_passes_the_documented_test(tmp_path: Path) -> None:
    backend, test = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "our_team").mkdir()
    for name, content in (
        ("our_team/__init__.py", ""),
        ("our_team/cellar.py", CELLAR),
        ("our_team/backends.py", backend),
        ("test_our_backend.py", test),
    ):
        (tmp_path / name).write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_our_backend.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert " 23 passed" in f" {done.stdout.splitlines()[-1]}"

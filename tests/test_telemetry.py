import os
import subprocess
import sys

import pytest

SILENT = """
import {module}
import mlflow
from mlflow.telemetry import get_telemetry_client
from evidently.telemetry import event_logger
assert get_telemetry_client() is None
enabled = event_logger.enabled
assert not (enabled() if callable(enabled) else enabled)
"""


@pytest.mark.parametrize("module", ["wine_quality.serving.app", "wine_quality.drift.verdicts"])
def test_nothing_phones_home_unless_it_is_asked_to(module):
    # both libraries keep quiet by themselves where they know that they are being tested
    tells = {"CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "DO_NOT_TRACK"}
    environment = {name: value for name, value in os.environ.items() if name not in tells}
    done = subprocess.run(
        [sys.executable, "-c", SILENT.format(module=module)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

"""What the tests of orchestration share."""

from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def plain_settings():
    """What conf/base/orchestration.yml says, as plain values of the test's own."""
    return yaml.safe_load((CONF / "base" / "orchestration.yml").read_text())

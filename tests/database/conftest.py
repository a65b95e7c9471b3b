"""An empty database of either kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, postgres_schema) -> Iterator[str]:
    """Address of a database that nobody has used yet, one of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/kept/here.db"
        return
    with postgres_schema("test the database layer on PostgreSQL too") as url:
        yield url

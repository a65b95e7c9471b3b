"""The migrations lead to the tables that a new log gets at once."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.log_database import InferenceLogError
from wine_quality.serving.log_schema import METADATA, SCHEMA
from wine_quality.serving.migrations import migrate


def shape(url: str) -> dict[str, object]:
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="sqlite" if "sqlite" in url else "postgresql+psycopg")
    )
    inspector = sa.inspect(engine)
    found: dict[str, object] = {}
    for name in METADATA.tables:
        if name == SCHEMA.name:
            # Alembic makes this one itself, and names its key otherwise
            with engine.connect() as connection:
                found[name] = connection.execute(sa.select(SCHEMA)).all()
            continue
        found[name] = (
            [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)],
            inspector.get_pk_constraint(name),
            inspector.get_foreign_keys(name),
            inspector.get_indexes(name),
            inspector.get_unique_constraints(name),
        )
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            query = sa.text("SELECT name FROM pragma_table_list WHERE wr = 1 ORDER BY name")
            found["without rowid"] = connection.scalars(query).all()
    engine.dispose()
    return found


def test_migrations_and_a_new_log_have_the_same_tables(log_url: str, tmp_path: Path) -> None:
    assert migrate(log_url).endswith("schema none -> 0001.")
    migrated = shape(log_url)
    if "sqlite" in log_url:
        new = f"sqlite:///{tmp_path}/new.db"
        InferenceLog(new).open()
        assert migrated == shape(new)
    # a log that was migrated is one like any other
    with InferenceLog(log_url) as log:
        log.open()
        assert log.read().empty
    assert "already" in migrate(log_url)


def test_an_older_log_says_how_to_migrate_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    InferenceLog(url).open()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.update(SCHEMA).values(version_num="0000"))
    engine.dispose()
    with pytest.raises(InferenceLogError, match=r"python -m wine_quality\.serving migrate"):
        InferenceLog(url).open()

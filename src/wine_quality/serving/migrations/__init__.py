"""Bringing an inference log of an older schema up to this one, with Alembic.

A new log is made at the newest schema at once; `log_schema.SCHEMA_VERSION` names it, and a test
holds that the migrations lead to the same tables.
"""

from pathlib import Path

from wine_quality.serving.log_database import LogDatabase
from wine_quality.serving.log_schema import SCHEMA, SCHEMA_VERSION


def migrate(url: str) -> str:
    """Bring a log to the newest schema, in one transaction; make it where there is none.

    Args:
        url: Of the log's database.

    Returns:
        What was done, in words.

    Raises:
        InferenceLogError: If the database cannot be used.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext

    database = LogDatabase(url, "FULL", 30.0)
    database.prepare()
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    try:
        with database.transaction(writing=True) as connection:
            options = {"version_table": SCHEMA.name}
            before = MigrationContext.configure(connection, opts=options).get_current_revision()
            if before != SCHEMA_VERSION:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    finally:
        database.close()
    if before == SCHEMA_VERSION:
        return f"The inference log {database.where} has schema {SCHEMA_VERSION} already."
    return f"The inference log {database.where}: schema {before or 'none'} -> {SCHEMA_VERSION}."

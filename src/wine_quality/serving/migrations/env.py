"""Runs the migrations on the connection that `migrate` has opened."""

from alembic import context

from wine_quality.serving.log_schema import METADATA, SCHEMA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=SCHEMA.name,
    # SQLite changes a table by making it anew
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

"""The steps of monitoring's tables, one module each; see `database.schema`."""

"""The steps of the inference log's tables, one module each; see `database.schema`."""

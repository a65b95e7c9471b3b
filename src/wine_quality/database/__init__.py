"""Databases, SQLite and PostgreSQL: addresses, connections, locks, errors, versions of tables.

It knows nothing of wines, and it is the one place that asks which of the two a database is.
"""

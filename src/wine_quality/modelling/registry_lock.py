"""Lets one process at a time make the tracking database, and change who is champion."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from wine_quality.database.addresses import parse_database_url, sqlite_file
from wine_quality.database.locks import Confirm, exclusive
from wine_quality.errors import WineQualityError

SETUP_PATIENCE_S = 300.0
"""Seconds to wait for another process that makes the tables; a busy machine needs a minute."""


@contextmanager
def setup_lock(address: str) -> Iterator[None]:
    """Hold the one lock under which MLflow may find that it has to make its tables in SQLite.

    MLflow's migrations take no lock: processes that begin on an empty database at once fail, and
    may leave it half made for good. Nothing is locked where this process may not write, for it
    makes nothing there, and with other databases, which are set up once, by whoever keeps them.

    Args:
        address: MLflow's tracking address.

    Raises:
        WineQualityError: Another process keeps the lock for `SETUP_PATIENCE_S` seconds.
    """
    database = sqlite_file(address)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    if database is None or not os.access(database.parent, os.W_OK):
        yield
        return
    with exclusive(address, "setup", "setting up the tracking database", SETUP_PATIENCE_S):
        yield


@contextmanager
def promotion_lock(registry: str, name: str, own_database: str | None) -> Iterator[Confirm]:
    """Hold the one lock of a registered model, across processes and machines.

    A registry in SQLite or PostgreSQL is a database that can be locked itself. MLflow's servers
    know no locks, and names in the registry make none: there the lock is in a database of the
    project's own, which all who promote in that registry have to share. It is named after the model
    alone, since a server has as many addresses as its machine has names.

    Args:
        registry: Address of the registry.
        name: Name of the registered model.
        own_database: Address of the database that has the lock where the registry is a server.

    Yields:
        What to call before the change: it raises an error if the lock was lost.

    Raises:
        WineQualityError: Another process keeps the lock for too long, or the database cannot be
            used.
    """
    place = own_database
    if urlsplit(registry).scheme.partition("+")[0] in {"sqlite", "postgres", "postgresql"}:
        url = parse_database_url(registry)
        # MLflow's driver may be another than ours
        if url.get_backend_name() == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        place = url.render_as_string(hide_password=False)
    if place is None:
        raise WineQualityError(
            f"The champion of {name} cannot be changed: the registry {registry} cannot be locked, "
            "and no database was named for the lock (credentials of the dataset 'champion')."
        )
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    with exclusive(place, f"{safe}.promotion", "changing the champion") as confirm:
        yield confirm

"""Lets one process at a time change who is champion."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wine_quality.errors import WineQualityError

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE = 60.0
"""Seconds to wait for another process; it needs far less than one."""
STALE = 30.0
"""Seconds after which a lock on a server counts as left by a process that died."""
LOOK_EVERY = 0.1
SUFFIX = ".promotion-lock"


@contextmanager
def registry_lock(client: "MlflowClient", name: str) -> Iterator[None]:
    """Hold the one lock of a registered model, across processes and machines.

    With the registry in SQLite it is a file beside the database, which the operating system frees
    if the process dies. MLflow's servers know no locks and cannot set an alias on a condition; what
    they do guarantee is that a registered model's name exists once. There the lock is a registered
    model named after this one, which is deleted afterwards, or by the next in line if it is left
    behind for `STALE` seconds.

    Args:
        client: Client of the registry.
        name: Name of the registered model.

    Raises:
        WineQualityError: Another process keeps the lock for `PATIENCE` seconds.
    """
    address = str(client._registry_uri)
    database = _database_file(address)
    if database is None:
        with _on_server(client, name):
            yield
        return
    from filelock import FileLock, Timeout

    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    lock = FileLock(f"{database}.{safe}{SUFFIX}", timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise _held(lock.lock_file) from error
    try:
        yield
    finally:
        lock.release()


def _database_file(address: str) -> Path | None:
    """Find the file of a SQLite registry; None for any other."""
    if not urlsplit(address).scheme.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    database = make_url(address).database
    return Path(database) if database and database != ":memory:" else None


@contextmanager
def _on_server(client: "MlflowClient", name: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    lock = name + SUFFIX
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client.create_registered_model(lock, description="Held while the champion changes.")
            break
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        if time.monotonic() > deadline:
            raise _held(lock)
        if not _remove_if_stale(client, lock):
            time.sleep(LOOK_EVERY)
    try:
        yield
    finally:
        client.delete_registered_model(lock)


def _remove_if_stale(client: "MlflowClient", lock: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        held_since = client.get_registered_model(lock).creation_timestamp / 1000
        if time.time() - held_since < STALE:
            return False
        client.delete_registered_model(lock)
    except MlflowException as error:
        # whoever held it, or waited for it, was faster
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    return True


def _held(lock: str) -> WineQualityError:
    return WineQualityError(
        f"Another process has been changing the champion for {PATIENCE:.0f} seconds ({lock}): see "
        "that it still runs, then try again."
    )

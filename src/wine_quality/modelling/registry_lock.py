"""Lets one process at a time make the tracking database, and change who is champion."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wine_quality.database_urls import sqlite_file
from wine_quality.errors import WineQualityError

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE = 60.0
"""Seconds to wait for another process; it needs far less than one."""
STALE = 30.0
"""Seconds after which a lock on a server counts as left by a process that died."""
LOOK_EVERY = 0.1
SUFFIX = ".promotion-lock"
SETUP_PATIENCE = 300.0
"""Seconds to wait for another process that makes the tables; a busy machine needs a minute."""
SETUP_SUFFIX = ".setup-lock"
_SETTING_UP, _PROMOTING = "setting up the tracking database", "changing the champion"


@contextmanager
def setup_lock(address: str) -> Iterator[None]:
    """Hold the one lock under which MLflow may find that it has to make its tables in SQLite.

    MLflow's migrations take no lock: processes that begin on an empty database at once fail, and
    may leave it half made for good. The lock is a file beside the database, which the operating
    system frees if the process dies. Nothing is locked where this process may not write, for it
    makes nothing there, and with other databases, which are set up once, by whoever keeps them.

    Args:
        address: MLflow's tracking address.

    Raises:
        WineQualityError: Another process keeps the lock for `SETUP_PATIENCE` seconds.
    """
    database = sqlite_file(address)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    if database is None or not os.access(database.parent, os.W_OK):
        yield
        return
    with _file_lock(f"{database}{SETUP_SUFFIX}", SETUP_PATIENCE, _SETTING_UP):
        yield


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
    database = sqlite_file(address)
    if database is None:
        with _on_server(client, name):
            yield
        return
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    with _file_lock(f"{database}.{safe}{SUFFIX}", PATIENCE, _PROMOTING):
        yield


@contextmanager
def _file_lock(path: str, patience: float, doing: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire()
    except Timeout as error:
        raise _held(lock.lock_file, patience, doing) from error
    try:
        yield
    finally:
        lock.release()


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
            raise _held(lock, PATIENCE, _PROMOTING)
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


def _held(lock: str, patience: float, doing: str) -> WineQualityError:
    return WineQualityError(
        f"Another process has been {doing} for {patience:.0f} seconds ({lock}): see that it still "
        "runs, then try again."
    )
